"""Finds cases and tells how they stand; nobody's votes are found by who cast them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from api.http.access import Principal
from api.named_cells import none_such
from api.support.cells import SupportCell
from api.support.cursors import behind, in_cell, read_page, read_place
from api.support.processes import case_of, is_beside, pending
from api.support.reading import note_reading
from api.support.waiting import Waiting
from domain.accounts import Account, KeyedHash, LookupHashes, LookupKind
from domain.cases import (
    Case,
    CaseAddress,
    CaseKind,
    PendingActivity,
    Standing,
    StepKind,
    Timeline,
    case_at,
    case_of_workflow,
)
from domain.errors import DomainError, ErrorCode
from domain.ids import VOTER_ID, cell_in, cell_of_workflow
from domain.masking import masked_contact
from domain.submissions import claimed_place
from integrations.temporal.submissions import SubmissionCase


class Way(StrEnum):
    """What cases are found by, besides what open ones are listed by (`Waiting`)."""

    VOTER = "voter"
    MAIL = "mail"
    PHONE = "phone"
    SUBMISSION = "submission"
    REGISTRATION = "registration"
    WORKFLOW = "workflow"


_AWAY: Final = frozenset({ErrorCode.CELL_UNAVAILABLE, ErrorCode.DIRECTORY_UNAVAILABLE, ErrorCode.WORKFLOWS_UNAVAILABLE})
_CONTACTS: Final = {Way.MAIL: LookupKind.MAIL, Way.PHONE: LookupKind.PHONE}


@dataclass(frozen=True, slots=True)
class Page:
    """Some cases, where they go on, and the cells that could not be asked."""

    cases: Sequence[Case]
    next_cursor: str | None = None
    missing_cells: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CaseFile:
    """One case: how it stands, how its voter is reached (masked), or the one vote that it is about.

    `pending` is of its process and of those that it started.
    """

    address: CaseAddress
    case: Case
    standing: Standing | None
    pending: tuple[PendingActivity, ...] = ()
    contact: dict[str, str] = field(default_factory=dict)
    submission: SubmissionCase | None = None


class CaseDesk:
    """Everything that support reads of cases."""

    def __init__(
        self, cells: Sequence[str], cell_of: Callable[[str | None], SupportCell], hashes: LookupHashes
    ) -> None:
        """`cell_of` raises DomainError `wrong_cell` or `cell_unavailable`."""
        self._cells = cells
        self._cell_of = cell_of
        self._hashes = hashes

    async def find(self, way: Way, value: str, cursor: str | None, limit: int) -> Page:
        """Return the cases that are found in this way. Raises DomainError as `of_voter`, `of_contact` and `open`."""
        if way is Way.VOTER:
            return await self.of_voter(value, cursor, limit)
        if way is Way.WORKFLOW:
            return await self.of_workflow(value)
        if way in _CONTACTS:
            return await self.of_contact(_CONTACTS[way], value, cursor, limit)
        return Page([(await self.open(value)).case])

    async def of_voter(self, voter_id: str, cursor: str | None, limit: int) -> Page:
        """Return a voter's registration, logins, recoveries and deletion, newest first.

        Raises:
            DomainError: `malformed_request`, `case_not_found` for a voter of no cell of ours, `cell_unavailable`,
                `directory_unavailable`.
        """
        cell = cell_in(VOTER_ID, voter_id)
        if cell is None:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "voter: not an id of a voter")
        found = await self._cell(cell).cases.of_voter(voter_id, read_place(cursor), limit + 1)
        return _page(found, limit)

    async def of_contact(self, kind: LookupKind, value: str, cursor: str | None, limit: int) -> Page:
        """Return the same of whoever has this mail address or telephone number, in every cell.

        Raises:
            DomainError: `malformed_request`, `key_unavailable`; `cell_unavailable` where no cell could be asked.
        """
        place, hashes = read_place(cursor), await self._hashes.every(kind, value)
        answers = await asyncio.gather(*(self._account(name, kind, hashes) for name in self._cells))
        missing = [name for name, (reached, _) in zip(self._cells, answers, strict=True) if not reached]
        if len(missing) == len(self._cells):
            raise DomainError(ErrorCode.CELL_UNAVAILABLE, "no cell could be asked")
        cases: list[Case] = []
        for _, account in answers:
            if account is not None:
                cases += await self._cell(account.cell).cases.of_voter(account.voter_id, place, limit + 1)
        cases.sort(key=lambda case: (case.began_at, case.case_id), reverse=True)
        return _page(cases, limit, missing)

    async def _account(self, name: str, kind: LookupKind, hashes: Sequence[KeyedHash]) -> tuple[bool, Account | None]:
        try:
            return True, await self._cell_of(name).accounts.find(kind, hashes)
        except DomainError as error:
            if error.code in _AWAY:
                return False, None
            raise

    async def waiting(self, sought: Waiting, cursor: str | None, limit: int) -> Page:
        """Return open cases that wait, or are marked for somebody; a page may hold fewer than there is room for.

        A page is of one cell. Where that one is away, the page names it, and the next one is another cell's.

        Raises:
            DomainError: `malformed_request`; of the only cell there is `cell_unavailable`, `directory_unavailable`,
                `workflows_unavailable`.
        """
        name, token = read_page(cursor, self._cells) or (self._cells[0], b"")
        try:
            found, following = await self._waiting(name, sought, token, limit)
        except DomainError as error:
            if error.code not in _AWAY or len(self._cells) == 1:
                raise
            return Page((), self._following(name, b""), [name])
        return Page(found, self._following(name, following))

    async def _waiting(self, name: str, sought: Waiting, token: bytes, limit: int) -> tuple[Sequence[Case], bytes]:
        cell, before = self._cell(name), datetime.now(UTC) - sought.older_than
        found, following = await cell.standings.open_since(
            sought.processes, sought.noted, before, limit, token, escalated=sought.escalated
        )
        rows = await cell.cases.every({address for address in map(case_of_workflow, found) if address is not None})
        waiting = [row for row in rows if sought.takes(row, before)]
        return sorted(waiting, key=lambda row: (row.changed_at, row.case_id)), following

    def _following(self, name: str, token: bytes) -> str | None:
        if token:
            return in_cell(name, token)
        behind_it = self._cells[self._cells.index(name) + 1 :]
        return in_cell(behind_it[0], b"") if behind_it else None

    async def of_workflow(self, workflow_id: str) -> Page:
        """Return the case that a workflow belongs to. Raises DomainError as `open`."""
        address = case_of_workflow(workflow_id)
        if is_beside(workflow_id):
            address = await case_of(self._cell(cell_of_workflow(workflow_id) or ""), workflow_id)
        if address is None:
            raise DomainError(ErrorCode.CASE_NOT_FOUND)
        return Page([(await self.open(address.case_id)).case])

    async def open(self, case_id: str) -> CaseFile:
        """Return how a case stands.

        Raises:
            DomainError: `case_not_found`, `cell_unavailable`, `directory_unavailable`, `workflows_unavailable`,
                `key_unavailable`, `key_destroyed`.
        """
        address = case_at(case_id)
        if address is None:
            return await self._submission(case_id)
        cell = self._cell(address.cell)
        row, standing = await asyncio.gather(cell.cases.at(address), cell.standings.of(address.workflow_id))
        case = row or (await _archived(cell, address) if standing is None else _unnamed(address, standing))
        data = await cell.records.get(case.voter_id) if case.voter_id else None
        contact = masked_contact(data.fields) if data is not None else {}
        return CaseFile(address, case, standing, await pending(cell, address, standing), contact)

    async def timeline(self, case_id: str) -> Timeline:
        """Return the steps of a case, out of the archive once the server has dropped them.

        Raises:
            DomainError: as `open`, also where its history is gone; a vote's is once the server has dropped it.
        """
        address = case_at(case_id)
        if address is None:
            submission = (await self._submission(case_id)).submission
            return Timeline(submission.steps if submission is not None else ())
        cell = self._cell(address.cell)
        found = await cell.timelines.of(address.workflow_id, await cell.cases.processes_of(address))
        if found is None:
            raise DomainError(ErrorCode.CASE_NOT_FOUND, "its history is not there, or not any more")
        return found

    async def read(self, case_id: str, staff: Principal) -> CaseFile:
        """Return how a case stands, to somebody of staff; the entry of that is committed. Raises as `open` does."""
        file = await self.open(case_id)
        await self._note_reading(file.address.cell, case_id, staff)
        return file

    async def read_timeline(self, case_id: str, staff: Principal) -> Timeline:
        """Return the steps of a case in the same way. Raises as `timeline` does."""
        address = case_at(case_id)
        if address is None:
            submission = (await self.read(case_id, staff)).submission
            return Timeline(submission.steps if submission is not None else ())
        found = await self.timeline(case_id)
        await self._note_reading(address.cell, case_id, staff)
        return found

    async def _note_reading(self, cell: str, case_id: str, staff: Principal) -> None:
        await note_reading(self._cell(cell).entries, case_id, staff, datetime.now(UTC))

    async def _submission(self, submission_id: str) -> CaseFile:
        """Look for a vote in every cell: its id names none, and it may be in one that is away."""
        away: DomainError | None = None
        if claimed_place(submission_id) is None:
            raise DomainError(ErrorCode.CASE_NOT_FOUND)
        for name in self._cells:
            try:
                found = await self._cell(name).submissions.find(submission_id)
            except DomainError as error:
                if error.code not in _AWAY:
                    raise
                away = error
                continue
            if found is not None:
                began = found.steps[0].at
                changed = max(step.ended_at or step.at for step in found.steps)
                case = Case(CaseKind.SUBMISSION, submission_id, "", found.stage, began, changed)
                return CaseFile(CaseAddress(CaseKind.SUBMISSION, submission_id, name, ""), case, None, submission=found)
        raise away or DomainError(ErrorCode.CASE_NOT_FOUND)

    def _cell(self, name: str) -> SupportCell:
        with none_such(DomainError(ErrorCode.CASE_NOT_FOUND)):
            return self._cell_of(name)


async def _archived(cell: SupportCell, address: CaseAddress) -> Case:
    """Return the same once the server has dropped it, too: by when it began and how it ended."""
    found = await cell.timelines.of(address.workflow_id)
    ends = [step for step in found.steps if step.kind is StepKind.ENDED] if found is not None else []
    if found is None or not ends:
        raise DomainError(ErrorCode.CASE_NOT_FOUND)
    return Case(address.kind, address.case_id, "", ends[-1].state, found.steps[0].at, ends[-1].at)


def _unnamed(address: CaseAddress, standing: Standing) -> Case:
    """Return a case that left nothing in the directory, such as a recovery of nobody's account."""
    changed = standing.ended_at or standing.began_at
    return Case(address.kind, address.case_id, "", standing.stage or standing.status, standing.began_at, changed)


def _page(cases: Sequence[Case], limit: int, missing: Sequence[str] = ()) -> Page:
    following = behind(cases[limit - 1]) if len(cases) > limit else None
    return Page(cases[:limit], following, missing)
