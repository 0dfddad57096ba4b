"""Waits until every batch from before a survey's end is recorded in a cell, or names the one that never will be."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity

from activities.failures import to_application_error
from activities.known_cells import known
from activities.server_clock import server_clock
from domain.certification_ports import BatchExecutions, ClosingLedger
from domain.contracts.certification import CellSurveyReference, CertificationDifference, DrainedCell
from domain.draining import BatchExecution, ClosingWindow, Finding, GatewayRows, Suspects, judge
from domain.errors import DomainError
from domain.ids import BatchId

_LOOK_AGAIN_S = 0.25
_LOOK_AGAIN_MAX_S = 5.0
_GATEWAYS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ClosingCell:
    """What it takes to drain one cell."""

    ledger: ClosingLedger
    executions: BatchExecutions


@dataclass(slots=True)
class _Drain:
    """What was proven so far: a gateway that was drained once stays so."""

    drained: set[bytes] = field(default_factory=set)
    never_started: int = 0
    differences: list[CertificationDifference] = field(default_factory=list)
    awaited: str = ""


class DrainActivities:
    """Drains cells; holds the ports so that a test can pass its own."""

    def __init__(self, cells: Mapping[str, ClosingCell]) -> None:
        self._cells = cells

    @activity.defn(name="drain_cell")
    async def drain_cell(self, request: CellSurveyReference) -> DrainedCell:
        """Return once the cell's end has passed and no batch from before it can be recorded any more.

        It has passed where both say so, the clock of the cell's database and Temporal's; where they differ that is
        logged. Heartbeats the batch that is waited for. Safe to repeat: it changes nothing.

        Raises:
            ApplicationError: `survey_not_found`; `ledger_unavailable`, `workflows_unavailable` (retried).
        """
        try:
            cell = known(self._cells, request.cell)
            window = await self._closed(cell, request)
            assert window.finish_at is not None
            found = _Drain()
            await _await_strangers(cell, request.cell, window, found)
            wait_s = _LOOK_AGAIN_S
            while True:
                found.awaited = ""
                gateways = await cell.ledger.gateways()
                left = [gateway for gateway in gateways if gateway.gateway_id not in found.drained]
                await self._examine(cell, request.cell, left, window, found)
                if len(found.drained) == len(gateways):
                    break
                await _pause(wait_s, found.awaited)
                wait_s = min(2 * wait_s, _LOOK_AGAIN_MAX_S)
        except DomainError as error:
            raise to_application_error(error) from error
        return DrainedCell(
            cell=request.cell,
            closed_at=window.finish_at,
            gateways=len(gateways),
            never_started=found.never_started,
            differences=tuple(found.differences),
        )

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [self.drain_cell]

    @staticmethod
    async def _closed(cell: ClosingCell, where: CellSurveyReference) -> ClosingWindow:
        now, is_off = server_clock(), False
        while True:
            window = await cell.ledger.window(where.survey_id)
            at = now()
            if window.is_off(at) and not is_off:
                is_off = True
                activity.logger.error(
                    "cell_clock_differs",
                    extra={"cell": where.cell, "seconds": round((window.now - at).total_seconds())},
                )
            if window.has_passed(at):
                return window
            await _pause(_LOOK_AGAIN_S, "the end")

    async def _examine(
        self, cell: ClosingCell, name: str, gateways: list[GatewayRows], window: ClosingWindow, found: _Drain
    ) -> None:
        at_once = asyncio.Semaphore(_GATEWAYS_AT_ONCE)

        async def one(gateway: GatewayRows) -> None:
            async with at_once:
                await _examine_gateway(cell, name, gateway, window, found)
                activity.heartbeat(gateway.gateway_id.hex())

        await asyncio.gather(*(one(gateway) for gateway in gateways))


async def _await_strangers(cell: ClosingCell, name: str, window: ClosingWindow, found: _Drain) -> None:
    """Wait until no batch runs whose gateway the ledger does not know, and note those that are lost.

    A ledger that was restored to a moment before a gateway was written down has no row of it, and has one again with
    the first batch of it that is recorded. Nothing tells which it was but what runs, by a listing: one that is further
    behind than clocks may differ misses what was accepted in that time.
    """
    assert window.finish_at is not None
    strangers: set[BatchId] = set()
    wait_s = _LOOK_AGAIN_S
    while True:
        strangers |= await cell.executions.running(window.finish_at)
        registered = await cell.ledger.registered({batch.gateway_id for batch in strangers})
        strangers = {batch for batch in strangers if batch.gateway_id not in registered}
        executions = {batch: await cell.executions.describe(batch) for batch in strangers}
        findings = {batch: judge(execution, window) for batch, execution in executions.items()}
        awaited = [batch for batch, finding in findings.items() if finding is Finding.AWAITED]
        if not awaited:
            break
        await _pause(wait_s, f"batch {awaited[0]}")
        wait_s = min(2 * wait_s, _LOOK_AGAIN_MAX_S)
    for batch, finding in findings.items():
        if finding is Finding.ENDED:
            found.differences += await _lost(cell, name, batch, executions[batch])


async def _examine_gateway(
    cell: ClosingCell, name: str, gateway: GatewayRows, window: ClosingWindow, found: _Drain
) -> None:
    """Note a gateway as drained with what is lost of it, or the batch that it waits for."""
    lost: list[CertificationDifference] = []
    never_started = 0
    suspects = Suspects(gateway)
    for number in suspects:
        batch = BatchId(gateway.gateway_id, number)
        execution = await cell.executions.describe(batch)
        match judge(execution, window):
            case Finding.HARMLESS:
                never_started += execution is None and number < gateway.highest
            case Finding.AWAITED:
                found.awaited = f"batch {batch}"
                return
            case Finding.ENDED:
                suspects.ended()
                lost += await _lost(cell, name, batch, execution)
    found.drained.add(gateway.gateway_id)
    found.never_started += never_started
    found.differences += lost


async def _lost(
    cell: ClosingCell, name: str, batch: BatchId, execution: BatchExecution | None
) -> list[CertificationDifference]:
    """Return what is to be said of a batch that ended, if it is lost.

    It may have been recorded since the rows were read; what ended is recorded before it ends.
    """
    assert execution is not None
    if await cell.ledger.is_recorded(batch):
        return []
    detail = f"accepted, its execution is {execution.status}, and the ledger has no row of it"
    return [CertificationDifference(cell=name, kind="batch_missing", row=f"batch {batch}", detail=detail)]


async def _pause(seconds: float, awaited: str) -> None:
    activity.heartbeat(awaited)
    await asyncio.sleep(seconds)
