"""Cases of the letter provider's sandbox: what the person enters, the register, and the letter."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from pydantic import Field

from integrations.identity.letters.client import CaseState, Reason
from integrations.sandboxes.control import ControlModel

CODE_TRIES_MAX: Final = 3
_ADVICE: Final = {
    Reason.NOT_IN_REGISTER: "The register has no such document. Please check its number.",
    Reason.DATA_MISMATCH: "The date of birth is not the one in the register.",
    Reason.CODE_WRONG: "The code was wrong too often. A new letter can be sent.",
    Reason.CODE_EXPIRED: "The letter has become too old. A new one can be sent.",
    Reason.ADDRESS_UNDELIVERABLE: "The letter came back. Please check the address.",
}

Tell = Callable[[str, "Case"], None]


class RefusedError(Exception):
    """A refusal in the provider's form."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


class DocumentData(ControlModel):
    """What the person types."""

    country: str = Field(pattern=r"^[A-Z]{3}$")
    kind: str = Field(default="id_card", pattern=r"^[a-z_]{1,32}$")
    number: str = Field(min_length=1, max_length=64)
    born_on: date
    name: str = Field(min_length=1, max_length=200)
    address: str = Field(min_length=1, max_length=500)


class RegisterEntry(ControlModel):
    """What the register says of a document; of one that was never entered it says whatever the person says."""

    country: str
    number: str
    born_on: date | None = None
    known: bool = True
    revoked: bool = False


@dataclass(slots=True)
class Letter:
    """A letter as it was printed."""

    code: str
    name: str
    address: str
    sent_at: datetime


@dataclass(slots=True)
class Case:
    """One case."""

    case_id: str
    id: str = field(default_factory=lambda: f"lc_{secrets.token_hex(12)}")
    state: CaseState = CaseState.AWAITING_DATA
    attempt: int = 1
    reasons: list[Reason] = field(default_factory=list)
    data: DocumentData | None = None
    letters: list[Letter] = field(default_factory=list)
    tries: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the case as the provider shows it: documents only once they are proved."""
        body: dict[str, Any] = {
            "id": self.id,
            "caseId": self.case_id,
            "state": self.state,
            "attempt": self.attempt,
            "reasons": self.reasons,
            "advice": " ".join(_ADVICE.get(reason, "") for reason in self.reasons).strip(),
        }
        if self.state is CaseState.ACCEPTED and self.data is not None:
            document = {"country": self.data.country, "kind": self.data.kind, "number": self.data.number}
            body |= {"document": document, "bornOn": self.data.born_on.isoformat()}
        return body


class Cases:
    """Every case; `tell` is called after each change with the event that it is."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._by_id: dict[str, Case] = {}
        self._access: dict[str, tuple[str, datetime]] = {}
        self._register: dict[tuple[str, str], RegisterEntry] = {}

    def open(self, case_id: str) -> Case:
        """Return the case of an id, a new one if need be."""
        found = self.find(case_id)
        if found is None:
            found = Case(case_id)
            self._by_id[found.id] = found
            self._tell("case.opened", found)
        return found

    def find(self, case_id: str) -> Case | None:
        """Return the case of our id."""
        return next((case for case in self._by_id.values() if case.case_id == case_id), None)

    def get(self, key: str) -> Case:
        """Return a case by either id. Raises RefusedError 404."""
        found = self._by_id.get(key) or self.find(key)
        if found is None:
            raise RefusedError(404, "no such case")
        return found

    def give_access(self, case: Case, ttl_s: int) -> tuple[str, datetime]:
        """Return a token of the person and when it expires."""
        token, until = f"lp_{secrets.token_urlsafe(24)}", datetime.now(UTC) + timedelta(seconds=ttl_s)
        self._access[token] = (case.id, until)
        return token, until

    def of_person(self, token: str) -> Case:
        """Return the case of a token. Raises RefusedError 401."""
        key, until = self._access.get(token, ("", datetime.min.replace(tzinfo=UTC)))
        if datetime.now(UTC) >= until:
            raise RefusedError(401, "the access has expired")
        return self.get(key)

    def register(self, entry: RegisterEntry) -> None:
        """Enter a document into the register."""
        self._register[entry.country, entry.number] = entry

    def take_document(self, case: Case, data: DocumentData) -> None:
        """Look a document up in the register, and send the letter where it is there."""
        _expect(case, CaseState.AWAITING_DATA)
        case.data = data
        entry = self._register.get((data.country, data.number))
        if entry is not None and entry.revoked:
            self._end(case, CaseState.REFUSED, Reason.DOCUMENT_REVOKED)
        elif entry is not None and not entry.known:
            self._end(case, CaseState.INCOMPLETE, Reason.NOT_IN_REGISTER)
        elif entry is not None and entry.born_on not in {None, data.born_on}:
            self._end(case, CaseState.INCOMPLETE, Reason.DATA_MISMATCH)
        else:
            code = f"{secrets.randbelow(10**8):08d}"
            case.letters.append(Letter(code, data.name, data.address, datetime.now(UTC)))
            case.state, case.tries = CaseState.AWAITING_CODE, 0
            self._tell("letter.sent", case)

    def take_code(self, case: Case, code: str) -> None:
        """Compare the code of the last letter. Raises RefusedError 422 for a wrong one."""
        _expect(case, CaseState.AWAITING_CODE)
        if secrets.compare_digest(code.encode(), case.letters[-1].code.encode()):
            self._end(case, CaseState.ACCEPTED)
            return
        case.tries += 1
        if case.tries >= CODE_TRIES_MAX:
            self._end(case, CaseState.INCOMPLETE, Reason.CODE_WRONG)
        raise RefusedError(422, "not the code of the letter")

    def fail(self, case: Case, state: CaseState, reason: Reason) -> None:
        """End an attempt as an operator would."""
        self._end(case, state, reason)

    def retry(self, case: Case) -> None:
        """Begin the next attempt."""
        _expect(case, CaseState.INCOMPLETE)
        case.state, case.reasons, case.attempt = CaseState.AWAITING_DATA, [], case.attempt + 1
        self._tell("case.reopened", case)

    def erase(self, case: Case) -> None:
        """Forget a case, its letters and its accesses."""
        del self._by_id[case.id]
        self._access = {token: given for token, given in self._access.items() if given[0] != case.id}
        self._tell("case.erased", case)

    def _end(self, case: Case, state: CaseState, *reasons: Reason) -> None:
        case.state, case.reasons = state, list(reasons)
        self._tell("case.decided", case)


def _expect(case: Case, state: CaseState) -> None:
    if case.state is not state:
        raise RefusedError(409, f"the case is {case.state.value}")
