"""Pages of long work: a replay is asked for, looked at while it runs, and cancelled; a rejudgement as well."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Path, Query, Request, Response

from api.compliance.rejudgement_routes import RejudgementBody
from api.compliance.rejudgements import RejudgementDesk, RejudgementOrder
from api.compliance.replay_routes import RUN, TYPE, WORKFLOW, ReplayBody, VerdictBody
from api.compliance.replays import ReplayDesk, ReplayOrder
from api.console.opening import Console
from api.console.pages import digest_of, path_segment, words
from api.console.visits import Visit, choice, instant_of, key_of
from api.http.limits import FrameworkRequest, Limits
from api.http.models import QueryText
from domain.contracts.rejudging import DecisionProcess
from domain.contracts.work import WorkStage
from domain.errors import DomainError, ErrorCode
from domain.limits import REJUDGE, REPLAY
from domain.replay import ReplayCode, Verdict
from domain.tokens import Role

_SHOWN: Final = 50  # verdicts of a page

WorkId = Annotated[QueryText, Path(max_length=64)]
Seen = Annotated[str, Query(max_length=64)]


@dataclass(frozen=True, slots=True)
class WorkDesks:
    """Where long work of compliance is asked for."""

    replays: ReplayDesk
    rejudgements: RejudgementDesk


class WorkPages:
    """What the pages are made of; they say how far it is by themselves where there are scripts, and by a link else."""

    def __init__(self, console: Console, desks: WorkDesks) -> None:
        self._pages = console.pages
        self._replays = desks.replays
        self._rejudgements = desks.rejudgements

    async def ask(self, visit: Visit) -> Response:
        """Ask for a replay, and go on to where it stands."""
        state = await self._replays.ask(_order(visit), key_of(visit), visit.principal)
        return self._pages.to(f"/replays/{path_segment(state.request.replay_id)}")

    async def replay(self, visit: Visit, replay_id: str, after: int, only: str) -> Response:
        """Return how far a replay is, and verdicts of it from a place on."""
        body, kind = ReplayBody.of(await self._replays.read(replay_id)), _verdict(only)
        found = [VerdictBody.of(kept) for kept in await self._replays.verdicts(replay_id, after, _SHOWN, kind)]
        return self._pages.page(
            "work.html",
            visit,
            work=body,
            name="replay",
            live=self._live(visit, "replay", replay_id, body),
            verdicts=found,
            only=only,
            kinds=list(Verdict),
            more=found[-1].number if len(found) == _SHOWN else 0,
            may_cancel=body.status is WorkStage.RUNNING,
            place=self._place("replay", replay_id),
        )

    async def rejudge(self, visit: Visit) -> Response:
        """Ask for a rejudgement, and go on to where it stands."""
        state = await self._rejudgements.ask(_question(visit), key_of(visit), visit.principal)
        return self._pages.to(f"/rejudgements/{path_segment(state.rejudgement_id)}")

    async def rejudgement(self, visit: Visit, rejudgement_id: str) -> Response:
        """Return how far a rejudgement is, and some of the decisions that would be others."""
        body = RejudgementBody.of(await self._rejudgements.read(rejudgement_id))
        return self._pages.page(
            "work.html",
            visit,
            work=body,
            name="rejudgement",
            live=self._live(visit, "rejudgement", rejudgement_id, body),
            verdicts=[],
            sample=body.sample,
            may_cancel=body.status is WorkStage.RUNNING,
            place=self._place("rejudgement", rejudgement_id),
        )

    async def live(self, visit: Visit, name: str, work_id: str, seen: str) -> Response:
        """Return how far some work is, or nothing where that is what was seen."""
        body = await self._read(name, work_id)
        if digest_of(body) == seen:
            return Response(status_code=204)
        told = "" if body.status is WorkStage.RUNNING else f"The {name} is {words(body.status)}."
        return self._pages.live(visit, self._live(visit, name, work_id, body), told)

    async def cancel(self, visit: Visit, name: str, work_id: str) -> Response:
        """Have some work cancelled, and go back to it. What had ended by itself is shown as it ended."""
        desk = self._replays if name == "replay" else self._rejudgements
        try:
            await desk.cancel(work_id, visit.principal)
        except DomainError as error:
            if error.code is not ErrorCode.WORK_ENDED:
                raise
        return self._pages.to(f"/{name}s/{path_segment(work_id)}")

    async def _read(self, name: str, work_id: str) -> ReplayBody | RejudgementBody:
        if name == "replay":
            return ReplayBody.of(await self._replays.read(work_id))
        return RejudgementBody.of(await self._rejudgements.read(work_id))

    def _live(self, visit: Visit, name: str, work_id: str, body: ReplayBody | RejudgementBody) -> str:
        watch = f"{self._place(name, work_id)}/state?seen={digest_of(body)}"
        runs = body.status is WorkStage.RUNNING
        return self._pages.part("work_live.html", visit, work=body, name=name, watch=watch if runs else "")

    def _place(self, name: str, work_id: str) -> str:
        return f"{self._pages.site.base}/{name}s/{path_segment(work_id)}"


def add_work_pages(console: Console, made: WorkPages, limits: Limits) -> None:
    """Add the routes of these pages to the console; who asks for work is limited as by the API."""
    router, door = console.router, console.door
    replays, rejudgements = limits.subjects(REPLAY), limits.subjects(REJUDGE)
    Officer = Annotated[Visit, Depends(door.require(Role.COMPLIANCE))]  # noqa: N806 - types
    Watching = Annotated[Visit, Depends(door.require(Role.COMPLIANCE, watches=True))]  # noqa: N806

    @router.post("/replays")
    async def ask(visit: Officer, request: Request) -> Response:
        replays.take(FrameworkRequest(request), visit.principal.actor)
        return await made.ask(visit)

    @router.get("/replays/{work_id}")
    async def replay(
        visit: Officer,
        work_id: WorkId,
        after: Annotated[int, Query(ge=0, le=2**53)] = 0,
        only: Annotated[QueryText, Query(max_length=16)] = "",
    ) -> Response:
        return await made.replay(visit, work_id, after, only)

    @router.get("/replays/{work_id}/state")
    async def replay_state(visit: Watching, work_id: WorkId, seen: Seen = "") -> Response:
        return await made.live(visit, "replay", work_id, seen)

    @router.post("/replays/{work_id}/cancel")
    async def cancel_replay(visit: Officer, work_id: WorkId) -> Response:
        return await made.cancel(visit, "replay", work_id)

    @router.post("/rejudgements")
    async def go(visit: Officer) -> Response:
        return console.pages.to(f"/rejudgements/{path_segment(visit.value('rejudgement')[:64])}")

    @router.post("/rejudgements/new")
    async def rejudge(visit: Officer, request: Request) -> Response:
        rejudgements.take(FrameworkRequest(request), visit.principal.actor)
        return await made.rejudge(visit)

    @router.get("/rejudgements/{work_id}")
    async def rejudgement(visit: Officer, work_id: WorkId) -> Response:
        return await made.rejudgement(visit, work_id)

    @router.get("/rejudgements/{work_id}/state")
    async def rejudgement_state(visit: Watching, work_id: WorkId, seen: Seen = "") -> Response:
        return await made.live(visit, "rejudgement", work_id, seen)

    @router.post("/rejudgements/{work_id}/cancel")
    async def cancel_rejudgement(visit: Officer, work_id: WorkId) -> Response:
        return await made.cancel(visit, "rejudgement", work_id)


def _order(visit: Visit) -> ReplayOrder:
    """Return what a form asks for. Raises DomainError `malformed_request`."""
    given: dict[str, Any] = {name: visit.form.get(name, "") for name in ("workflow", "run", "cell", "type")}
    if (given["workflow"] and not WORKFLOW.fullmatch(given["workflow"])) or not RUN.fullmatch(given["run"]):
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "not the id of a workflow and of a run of it")
    if not TYPE.fullmatch(given["type"]):
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "type: not a type of workflows")
    since, until = (instant_of(visit.form.get(name, ""), name) for name in ("from", "to"))
    if given["workflow"]:
        since, until, given["cell"], given["type"] = None, None, "", ""
    code = choice(ReplayCode, visit, "code") if "code" in visit.form else ReplayCode.THIS
    asked = (given["workflow"], given["run"], given["cell"], given["type"], since, until, code)
    return ReplayOrder(*asked, archived=visit.form.get("archived") == "yes")


def _question(visit: Visit) -> RejudgementOrder:
    """Return what a form asks for. Raises DomainError `malformed_request`."""
    since, until = (instant_of(visit.value(name), name) for name in ("from", "to"))
    assert since is not None
    assert until is not None
    try:
        policy = json.loads(visit.value("policy"))
    except ValueError as error:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "policy: not a JSON object") from error
    if not isinstance(policy, dict):
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "policy: not a JSON object")
    return RejudgementOrder(visit.value("cell"), choice(DecisionProcess, visit, "process"), since, until, policy)


def _verdict(only: str) -> Verdict | None:
    try:
        return Verdict(only) if only else None
    except ValueError as error:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "only: no verdict") from error
