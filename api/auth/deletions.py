"""Takes the wish to delete an account: kept durably, then carried out by a process that nothing ends half-done."""

from collections.abc import Callable

import structlog

from api.auth.cells import AuthCells
from api.auth.recent import recent_session
from domain.account_ends import Deletion
from domain.contracts.accounts import DeleteAccountInput
from domain.errors import DomainError, ErrorCode
from domain.ids import DELETION_ID, cell_in, new_deletion_id
from domain.tokens import VoterClaims
from integrations.identity_cell import IdentityCell

log = structlog.get_logger(__name__)


class DeletionDesk:
    """Begins deletions and shows how far they are.

    All calls raise DomainError `wrong_cell`, `cell_unavailable`, `directory_unavailable`.
    """

    def __init__(
        self, cells: tuple[str, ...], auth_cells: AuthCells, cell_of: Callable[[str | None], IdentityCell]
    ) -> None:
        self._cells = cells
        self._auth_cells = auth_cells
        self._cell_of = cell_of

    async def delete(self, claims: VoterClaims) -> Deletion:
        """Return the deletion of the voter's account, begun now or before. Raises DomainError `step_up_required`."""
        name = (await recent_session(self._auth_cells, claims)).name
        cell = self._cell_of(name)
        wished = await cell.ends.request(new_deletion_id(name), claims.sub)
        begun = DeleteAccountInput(
            deletion_id=wished.deletion_id, voter_id=wished.voter_id, cell=name, cells=self._cells
        )
        try:
            await cell.account_processes.delete(begun)
        except DomainError as error:
            if error.code is not ErrorCode.WORKFLOWS_UNAVAILABLE:
                raise
            log.warning("deletion_not_begun", cell=name)  # what is kept is begun by a sweep
        return wished

    async def get(self, deletion_id: str) -> Deletion:
        """Return a deletion. Raises DomainError `deletion_not_found`."""
        name = cell_in(DELETION_ID, deletion_id)
        if name is None:
            raise DomainError(ErrorCode.DELETION_NOT_FOUND)
        found = await self._cell_of(name).ends.get(deletion_id)
        if found is None:
            raise DomainError(ErrorCode.DELETION_NOT_FOUND)
        return found
