"""Break-glass over HTTP: asked for, decided by a second person, and read from the records while that holds."""

from collections.abc import Callable

from api.http.access import Principal
from api.named_cells import none_such
from api.support.acting import find_case
from api.support.cells import SupportCell
from domain.contracts.support import BreakGlassInput, DecideUnmasking, ReadUnmasking, UnmaskingState
from domain.errors import DomainError, ErrorCode
from domain.ids import UNMASKING_ID, cell_in, derived_id
from domain.masking import MaskedField
from domain.unmasking import UnmaskingReason, UnmaskingStage, approving_role, asking_role, unmasking_id_of


class UnmaskingDesk:
    """Unmaskings of every cell. A field's value is read here, at the moment of showing it, and is kept nowhere."""

    def __init__(self, cell_of: Callable[[str | None], SupportCell], *, is_watched: bool) -> None:
        """`cell_of` raises DomainError `wrong_cell` or `cell_unavailable`; `is_watched`: somebody is told of each."""
        self._cell_of = cell_of
        self._is_watched = is_watched

    async def ask(
        self, case_id: str, field: MaskedField, reason: UnmaskingReason, key: str, staff: Principal
    ) -> UnmaskingState:
        """Return an unmasking that waits for a second person. Safe to repeat under one key.

        Raises:
            DomainError: `forbidden`, also where nobody would be told; `case_not_found`, also without such a field;
                `cell_unavailable`, `directory_unavailable`, `workflows_unavailable`, `key_unavailable`,
                `key_destroyed`.
        """
        role = asking_role(staff.actor, staff.roles)
        if role is None:
            raise DomainError(ErrorCode.FORBIDDEN, "a person of support or compliance asks")
        if not self._is_watched:
            raise DomainError(ErrorCode.FORBIDDEN, "nobody would be told: no address of data protection is set")
        address, cell, _ = await find_case(self._cell_of, case_id)
        await self._value(case_id, field)
        request = BreakGlassInput(
            request_id=unmasking_id_of(address.cell, staff.actor, key, case_id, field, reason),
            cell=address.cell,
            case_id=case_id,
            field=field.value,
            actor=staff.actor,
            role=role,
            reason=reason.value,
        )
        await cell.unmaskings.start(request)
        return await cell.unmaskings.state(request.request_id)

    async def decide(self, unmasking_id: str, key: str, staff: Principal, *, approved: bool) -> UnmaskingState:
        """Return an unmasking once a second person has decided. Safe to repeat under one key.

        Raises:
            DomainError: `forbidden`, also for whoever asked; `unmasking_not_found`, `unmasking_stage`,
                `cell_unavailable`, `workflows_unavailable`.
        """
        role = approving_role(staff.actor, staff.roles)
        if role is None:
            raise DomainError(ErrorCode.FORBIDDEN, "a person of compliance or administration decides")
        unmaskings = self._cell(unmasking_id).unmaskings
        await unmaskings.state(unmasking_id)
        decision = DecideUnmasking(actor=staff.actor, role=role, approved=approved)
        # Of the person too: one key of two people is two decisions, and the second is refused
        asked = derived_id("decision", f"{staff.actor}\n{key}\n{approved}")
        return await unmaskings.decide(unmasking_id, decision, asked)

    async def look(self, unmasking_id: str) -> UnmaskingState:
        """Return where it stands, which is no reading.

        Raises:
            DomainError: `unmasking_not_found`, `cell_unavailable`, `workflows_unavailable`.
        """
        return await self._cell(unmasking_id).unmaskings.state(unmasking_id)

    async def read(self, unmasking_id: str, staff: Principal) -> tuple[UnmaskingState, str | None]:
        """Return where it stands and, to whoever asked and while it is approved, the value, after an entry of that.

        Raises:
            DomainError: `unmasking_not_found`, `unmasking_stage`, `case_not_found` where the field is gone,
                `cell_unavailable`, `directory_unavailable`, `workflows_unavailable`, `key_unavailable`,
                `key_destroyed`.
        """
        unmaskings = self._cell(unmasking_id).unmaskings
        state = await unmaskings.state(unmasking_id)
        if state.stage is not UnmaskingStage.APPROVED or state.asked_by != staff.actor:
            return state, None
        state = await unmaskings.read(unmasking_id, ReadUnmasking(actor=staff.actor))
        if state.stage is not UnmaskingStage.APPROVED:
            return state, None
        return state, await self._value(state.case_id, MaskedField(state.field))

    async def _value(self, case_id: str, field: MaskedField) -> str:
        _, cell, case = await find_case(self._cell_of, case_id)
        data = await cell.records.get(case.voter_id) if case.voter_id else None
        value = data.fields.get(field.value) if data is not None else None
        if not value:
            raise DomainError(ErrorCode.CASE_NOT_FOUND, "it has no such field")
        return value

    def _cell(self, unmasking_id: str) -> SupportCell:
        with none_such(DomainError(ErrorCode.UNMASKING_NOT_FOUND)):
            return self._cell_of(cell_in(UNMASKING_ID, unmasking_id))
