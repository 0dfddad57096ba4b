"""Has something done to a case: written down first, then asked of its process, then written down what came of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from api.http.access import Principal
from api.named_cells import none_such
from api.support.cells import SupportCell
from domain.audit import AuditEntry, AuditKind
from domain.cases import Case, CaseAddress, CaseKind, case_at
from domain.contracts.support import CaseAction, UnlockAccountInput
from domain.errors import DomainError, ErrorCode
from domain.ids import verify_identity_workflow_id
from domain.registrations import RegistrationStage
from domain.support_actions import OF_THE_ACCOUNT, RULES, SupportAction, SupportReason, action_id_of, may_act

_DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class Taken:
    """What was done, and the stage of the case."""

    action_id: str
    action: SupportAction
    stage: str


class ActionDesk:
    """Everything that support has done to cases.

    No act is without an entry: the one that it is asked for is committed before a process hears of anything. What came
    of it is a second entry. Where nobody answers in between there is the first alone, and whoever asks again under the
    same key goes on from there.
    """

    def __init__(self, cell_of: Callable[[str | None], SupportCell]) -> None:
        """`cell_of` raises DomainError `wrong_cell` or `cell_unavailable`."""
        self._cell_of = cell_of

    async def act(
        self, case_id: str, action: SupportAction, reason: SupportReason, key: str, staff: Principal
    ) -> Taken:
        """Return once it is done. Safe to repeat under one key: it is done once, and a refusal stays one.

        Raises:
            DomainError: `forbidden`, `malformed_request` for a reason that this is not done for, `case_not_found`,
                `case_stage`, `registration_stage`, `rate_limited`, `idempotency_key_used`, `cell_unavailable`,
                `directory_unavailable`, `workflows_unavailable`.
        """
        rule = RULES[action]
        role = rule.role_of(staff.roles)
        if role is None:
            raise DomainError(ErrorCode.FORBIDDEN, f"{action} is another role's")
        if reason not in rule.reasons:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, f"reason: {action} takes {', '.join(sorted(rule.reasons))}")
        address, cell, case = await find_case(self._cell_of, case_id)
        action_id = action_id_of(staff.actor, case_id, key)
        asked = CaseAction(action_id=action_id, action=action, actor=staff.actor, reason=reason.value)
        told = AuditEntry(
            AuditKind.CASE_ACTION_ASKED,
            staff.actor,
            case_id,
            role=role.value,
            reason=reason.value,
            outcome=f"{action}:{case.stage}",
            facts={"request": action_id},
        )
        # Of the first time: whoever repeats it asks the same process, wherever the case is by now
        noted, _, stage = (await cell.entries.note(f"{action_id}/asked", told)).partition(":")
        if noted != action:
            raise DomainError(ErrorCode.IDEMPOTENCY_KEY_USED)
        ended, now = await cell.entries.outcome_of(f"{action_id}/taken"), case.stage
        if ended is None:
            ended, now = await _take(cell, case, address, stage, asked)
            facts = {"action": action.value, "request": action_id}
            told = replace(told, kind=AuditKind.CASE_ACTION_TAKEN, outcome=ended, facts=facts)
            ended = await cell.entries.note(f"{action_id}/taken", told)
        if ended != _DONE:
            raise DomainError(ErrorCode(ended))
        return Taken(action_id, action, now)


async def find_case(
    cell_of: Callable[[str | None], SupportCell], case_id: str
) -> tuple[CaseAddress, SupportCell, Case]:
    """Return a case that the directory has, and its cell.

    Raises:
        DomainError: `case_not_found`, also for votes, which nobody has anything done to; `cell_unavailable`,
            `directory_unavailable`.
    """
    address = case_at(case_id)
    if address is None:
        raise DomainError(ErrorCode.CASE_NOT_FOUND)
    with none_such(DomainError(ErrorCode.CASE_NOT_FOUND)):
        cell = cell_of(address.cell)
    case = await cell.cases.at(address)
    if case is None:
        raise DomainError(ErrorCode.CASE_NOT_FOUND)
    return address, cell, case


async def _take(cell: SupportCell, case: Case, address: CaseAddress, stage: str, asked: CaseAction) -> tuple[str, str]:
    """Return the outcome, `done` or why it was refused, and the stage; raise where that is not known yet."""
    if not may_act(asked.action, address.kind, stage):
        return ErrorCode.CASE_STAGE.value, stage
    try:
        if asked.action in OF_THE_ACCOUNT:
            await cell.actions.unlock(_unlocking(cell, case, asked))
            return _DONE, stage
        taken = await cell.actions.take(await _process(cell, address, stage, asked.action), asked)
    except DomainError as error:
        if error.spec.retryable:
            raise
        return error.code.value, stage
    return _DONE, taken.stage


def _unlocking(cell: SupportCell, case: Case, asked: CaseAction) -> UnlockAccountInput:
    return UnlockAccountInput(
        action_id=asked.action_id,
        cell=cell.name,
        case_id=case.case_id,
        voter_id=case.voter_id,
        reinstates=asked.action is SupportAction.REINSTATE,
        actor=asked.actor,
        reason=asked.reason,
    )


async def _process(cell: SupportCell, address: CaseAddress, stage: str, action: SupportAction) -> str:
    """Return the id of the process that is asked: while a registration is proofed, that of the proofing."""
    is_proofed = address.kind is CaseKind.REGISTRATION and stage != RegistrationStage.CONTACT_PROOF
    if not is_proofed or action is SupportAction.CANCEL:
        return address.workflow_id
    row = await cell.registrations.get(address.case_id)
    return verify_identity_workflow_id(cell.name, address.case_id, 1 if row is None else row.case_no)
