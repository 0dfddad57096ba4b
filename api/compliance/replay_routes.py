"""Replays of executions: `/v1/compliance/replays`."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from api.compliance.replays import ReplayDesk, ReplayOrder
from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.idempotency import Key
from api.http.limits import FrameworkRequest, Limits
from api.http.models import ApiModel, QueryText, Timestamp
from domain.contracts.replays import ReplayState
from domain.contracts.work import WorkStage
from domain.errors import ErrorCode
from domain.limits import REPLAY
from domain.replay import ReplayCode, Verdict
from domain.replay_ports import KeptVerdict

WORKFLOW: Final = re.compile(r"[a-z0-9-]{1,64}(/[A-Za-z0-9_.-]{1,128}){1,5}")
RUN: Final = re.compile(r"([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?")
TYPE: Final = re.compile(r"[A-Za-z]{0,64}")
_PREFIX: Final = "/v1/compliance/replays"
_LINES: Final = "application/x-ndjson"
_PAGE_MAX: Final = 500
_AWAY: Final = (ErrorCode.NOT_FOUND, ErrorCode.CELL_UNAVAILABLE, ErrorCode.DIRECTORY_UNAVAILABLE)

ReplayId = Annotated[QueryText, Path(max_length=64)]


class ReplayOrderBody(ApiModel):
    """One execution by its `workflowId`; or a `cell` (or `platform`) and a period, of one `type` or of all."""

    workflow_id: str = Field(default="", pattern=rf"^({WORKFLOW.pattern})?$", max_length=254)
    run_id: str = Field(default="", pattern=rf"^{RUN.pattern}$", description="Without it, the newest run.")
    cell: str = Field(default="", max_length=16)
    type: str = Field(default="", pattern=rf"^{TYPE.pattern}$")
    since: Timestamp | None = Field(default=None, alias="from", description="Started at or after.")
    until: Timestamp | None = Field(default=None, alias="to", description="And before; not in the future.")
    code: ReplayCode = Field(
        default=ReplayCode.THIS,
        strict=False,
        description="With this release, or each execution with the one that it records, where that is at hand.",
    )
    archived: bool = Field(
        default=False, description="Out of the archive, also what the server has dropped; not of `platform`."
    )

    def order(self) -> ReplayOrder:
        """Return it as the desk takes it."""
        given = (self.workflow_id, self.run_id, self.cell, self.type, self.since, self.until, self.code)
        return ReplayOrder(*given, archived=self.archived)


class ReplayBody(ApiModel):
    """How far a replay is; of a period everything that started before `judgedUntil` is judged."""

    replay_id: str
    status: WorkStage = Field(strict=False)
    asked_by: str
    asked_at: Timestamp
    ended_at: Timestamp | None
    workflow_id: str
    run_id: str
    cell: str = Field(description="Whose executions are replayed, or `platform`.")
    type: str
    since: Timestamp | None = Field(alias="from")
    until: Timestamp | None = Field(alias="to")
    judged_until: Timestamp | None
    code: ReplayCode = Field(strict=False)
    archived: bool = Field(description="Read out of the archive.")
    same: int
    different: int
    cannot: int

    @classmethod
    def of(cls, state: ReplayState) -> "ReplayBody":
        """Return a replay as it is shown."""
        request = state.request
        return cls(
            replay_id=request.replay_id,
            status=state.stage,
            asked_by=state.asked_by,
            asked_at=state.asked_at,
            ended_at=state.ended_at,
            workflow_id=request.workflow_id,
            run_id=request.run_id,
            cell=request.namespace,
            type=request.workflow_type,
            since=request.since,
            until=request.until,
            judged_until=state.judged_until,
            code=request.code,
            archived=request.archived,
            same=state.same,
            different=state.different,
            cannot=state.cannot,
        )


class ReplayPage(ApiModel):
    """Some replays, newest first."""

    replays: tuple[ReplayBody, ...] = Field(strict=False)
    next_cursor: str | None


class VerdictBody(ApiModel):
    """The verdict on one execution. `eventId` is the first event of its history that the code would not have caused."""

    number: int
    workflow_id: str
    run_id: str
    type: str
    verdict: Verdict = Field(strict=False)
    event_id: int = Field(description="0 where nothing differs.")
    recorded: str = Field(description="What that event is.")
    wanted: str = Field(description="What the code asks for in its place; of `reached_out`, the call.")
    why: str = Field(description="Why it cannot be said, as a code.")
    code: str = Field(description="The build of that code, where recorded code was asked for and is known.")

    @classmethod
    def of(cls, kept: KeptVerdict) -> "VerdictBody":
        """Return a verdict as it is shown."""
        found = kept.verdict
        return cls(
            number=kept.number,
            workflow_id=found.workflow_id,
            run_id=found.run_id,
            type=found.workflow_type,
            verdict=found.verdict,
            event_id=found.event_id,
            recorded=found.recorded,
            wanted=found.wanted,
            why=found.why,
            code=found.code,
        )


class VerdictPage(ApiModel):
    """Some verdicts, in the order in which they came."""

    verdicts: tuple[VerdictBody, ...] = Field(strict=False)
    next_cursor: str | None = Field(description="Where to go on; of a replay that runs there may be none yet.")


def replay_routes(desk: ReplayDesk, officers: Callable[..., Awaitable[Principal]], limits: Limits) -> APIRouter:
    """Return the routes; `officers` lets in who may replay."""
    router = APIRouter(prefix=_PREFIX, tags=["Replays"], responses={**STAFF_RESPONSES})
    Officer = Annotated[Principal, Depends(officers)]  # noqa: N806 - a type
    orders = limits.subjects(REPLAY)

    @router.post(
        "",
        status_code=202,
        summary="Replay executions",
        responses=problem_responses(*_AWAY, ErrorCode.WORKFLOWS_UNAVAILABLE, ErrorCode.IDEMPOTENCY_KEY_USED),
    )
    async def ask(
        order: ReplayOrderBody, principal: Officer, key: Key, request: Request, response: Response
    ) -> ReplayBody:
        """Begin to compare what was decided then with what the chosen code decides. Nothing is carried out."""
        orders.take(FrameworkRequest(request), principal.actor)
        state = await desk.ask(order.order(), key, principal)
        response.headers["Location"] = f"{_PREFIX}/{state.request.replay_id}"
        return ReplayBody.of(state)

    @router.get("", summary="List the replays of a cell", responses=problem_responses(*_AWAY))
    async def list_replays(
        _principal: Officer,
        cell: Annotated[QueryText, Query(max_length=16)],
        cursor: Annotated[QueryText | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> ReplayPage:
        """List what was asked for in a cell, newest first; those of the platform are in the first one by its name."""
        found = await desk.newest(cell, cursor, limit)
        goes_on = len(found) == limit
        return ReplayPage(
            replays=tuple(map(ReplayBody.of, found)), next_cursor=found[-1].request.replay_id if goes_on else None
        )

    @router.get("/{replay_id}", summary="Read how far a replay is", responses=problem_responses(*_AWAY))
    async def read(replay_id: ReplayId, _principal: Officer) -> ReplayBody:
        """Read how many executions are judged so far, and how."""
        return ReplayBody.of(await desk.read(replay_id))

    @router.get(
        "/{replay_id}/verdicts",
        summary="Read the verdicts of a replay",
        response_model=VerdictPage,
        responses={
            200: {"content": {_LINES: {}}, "description": "A page, or all that there are by now, one a line."},
            **problem_responses(*_AWAY),
        },
    )
    async def read_verdicts(
        replay_id: ReplayId,
        _principal: Officer,
        *,
        verdict: Annotated[Verdict | None, Query(description="Only these.")] = None,
        cursor: Annotated[int, Query(ge=0, le=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=_PAGE_MAX)] = 100,
        accept: Annotated[str, Header(description=f"`{_LINES}` asks for all of them.")] = "",
    ) -> VerdictPage | Response:
        """Read what was found of each execution: names and codes, and nothing of what a history says."""
        if _LINES in accept:
            await desk.read(replay_id)
            return StreamingResponse(_lines(desk, replay_id, cursor, verdict), media_type=_LINES)
        found = await desk.verdicts(replay_id, cursor, limit, verdict)
        next_cursor = str(found[-1].number) if len(found) == limit else None
        return VerdictPage(verdicts=tuple(map(VerdictBody.of, found)), next_cursor=next_cursor)

    @router.put(
        "/{replay_id}/cancel",
        summary="Cancel a replay",
        responses=problem_responses(*_AWAY, ErrorCode.WORK_ENDED, ErrorCode.WORKFLOWS_UNAVAILABLE),
    )
    async def cancel(replay_id: ReplayId, principal: Officer) -> ReplayBody:
        """End it as far as it is: the verdicts until now can still be read. Asked again, it stays cancelled."""
        return ReplayBody.of(await desk.cancel(replay_id, principal))

    return router


async def _lines(desk: ReplayDesk, replay_id: str, after: int, only: Verdict | None) -> AsyncIterator[bytes]:
    async for kept in desk.stream(replay_id, after, only):
        document: Any = VerdictBody.of(kept).model_dump(mode="json", by_alias=True)
        yield msgspec.json.encode(document) + b"\n"
