"""The processes of a case besides its own: what it started, what staff had done beside it, and what these wait for."""

import asyncio
import re
from typing import Final

from api.support.cells import SupportCell
from domain.cases import CaseAddress, CaseKind, PendingActivity, Standing, StepKind, case_at
from domain.ids import verify_identity_workflow_id

_BESIDE: Final = re.compile(r"(?:unlock-account|break-glass)/[a-z][a-z0-9]{0,15}/[a-z0-9_]{1,64}")


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


def is_beside(workflow_id: str) -> bool:
    """Tell whether this is the id of a process that staff had something done to a case by, which alone knows which."""
    return _BESIDE.fullmatch(workflow_id) is not None


async def case_of(cell: SupportCell, workflow_id: str) -> CaseAddress | None:
    """Return the case that such a process was begun for, out of its history; None where that is gone.

    Raises:
        DomainError: `workflows_unavailable`, `audit_log_unavailable`, `key_unavailable`, `key_destroyed`.
    """
    found = await cell.timelines.of(workflow_id)
    begun = () if found is None else (step.given for step in found.steps if step.kind is StepKind.BEGAN)
    return next((case_at(str(getattr(given, "case_id", ""))) for given in begun), None)
