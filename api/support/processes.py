"""The processes of a case besides its own: what it started, what staff had done beside it, and what these wait for."""

import asyncio

from api.support.cells import SupportCell
from domain.cases import CaseAddress, CaseKind, PendingActivity, Standing
from domain.ids import verify_identity_workflow_id


async def pending(cell: SupportCell, address: CaseAddress, standing: Standing | None) -> tuple[PendingActivity, ...]:
    """Return what the processes of a case wait for.

    While a registration is proofed that is what its proofing waits for, which also begins anew once it is over: then
    it is nobody's child.

    Raises:
        DomainError: `directory_unavailable`, `workflows_unavailable`.
    """
    named, proofing = await asyncio.gather(cell.cases.processes_of(address), _proofing(cell, address))
    begun = () if standing is None else standing.children
    found = await cell.standings.of_all(sorted({*begun, *proofing, *named}))
    own = () if standing is None else standing.pending
    return (*own, *(each for other in found for each in other.pending))


async def _proofing(cell: SupportCell, address: CaseAddress) -> tuple[str, ...]:
    if address.kind is not CaseKind.REGISTRATION:
        return ()
    row = await cell.registrations.get(address.case_id)
    if row is None or not row.case_no:
        return ()
    return (verify_identity_workflow_id(cell.name, address.case_id, row.case_no),)
