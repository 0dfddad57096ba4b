"""Acts in cases: noted first, then asked of the process."""

from collections.abc import Callable

from api.support.cells import SupportCell
from domain.case_actions import CaseAction, check_permitted
from domain.cases import CaseKind, case_at
from domain.errors import DomainError, ErrorCode


class ActionDesk:
    """Passes on what support asks; whoever dies in between has noted it, and asks again."""

    def __init__(self, cell_of: Callable[[str | None], SupportCell]) -> None:
        """`cell_of` raises DomainError `wrong_cell` or `cell_unavailable`."""
        self._cell_of = cell_of

    async def act(self, case_id: str, action: CaseAction, reason: str, actor: str, key: str) -> None:
        """Ask something of a case. Safe to repeat with the same `key`.

        Raises:
            DomainError: `case_not_found`, `registration_stage`, `rate_limited`, `cell_unavailable`,
                `directory_unavailable`, `workflows_unavailable`.
        """
        address = case_at(case_id)
        if address is None or address.kind is not CaseKind.REGISTRATION:
            raise DomainError(ErrorCode.CASE_NOT_FOUND, "nothing can be asked there")
        cell = self._cell(address.cell)
        case = await cell.cases.at(address)
        if case is None:
            raise DomainError(ErrorCode.CASE_NOT_FOUND)
        check_permitted(action, case)
        await cell.actions.note(case, action, reason, actor, key)
        registration = await cell.registrations.get(case_id)
        await cell.steering.ask(action, case_id, 0 if registration is None else registration.case_no, key)

    def _cell(self, name: str) -> SupportCell:
        try:
            return self._cell_of(name)
        except DomainError as error:
            if error.code is ErrorCode.WRONG_CELL:
                raise DomainError(ErrorCode.CASE_NOT_FOUND) from error
            raise
