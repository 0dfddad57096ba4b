import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from comitia.stack.applications import API, VOTING_WORKER, Application
from comitia.stack.ports import HOST
from comitia.stack.probes import http_get
from comitia.stack.process import StartError
from comitia.stack.rolling import roll
from comitia.stack.source import Source, present_source
from comitia.stack.state import StackState
from comitia.stack.supervisor import Supervisor
from tests.comitia.stack.processes import gone

STAND_IN = "tests.comitia.stack.answering"
WORKER_STOPS_WITHIN_S = 15  # once it has drained: docs/runbooks/rolling-restart.md


class StandIn(Application):
    """Runs a process that answers in place of the service."""

    @property
    def command(self) -> tuple[str, ...]:
        first, option, *_ = super().command
        return (first, option, STAND_IN, self.service)


def stand_in(application: Application) -> StandIn:
    return StandIn(application.package, application.service, application.roles, application.port)


VOTES = stand_in(next(application for application in API if application.service == "votes"))
RESULTS = stand_in(next(application for application in API if application.service == "results"))
VOTING = stand_in(VOTING_WORKER)


@pytest.fixture
def state(servers: StackState, tmp_path: Path) -> StackState:
    return servers.model_copy(update={"folder": tmp_path})


async def get(supervisor: Supervisor, name: str, path: str) -> bytes:
    _, body = await http_get(HOST, int(supervisor.url(name).rpartition(":")[2]), path)
    return body


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if true():
                return
            await asyncio.sleep(0.02)


async def test_all_are_ready_inside_and_gone_outside(state: StackState) -> None:
    async with Supervisor(state, applications=(VOTES, VOTING)) as supervisor:
        pids = supervisor.pids
        assert pids.keys() == {"api-votes", "workers-voting"}
        assert supervisor.urls["api-votes"] == supervisor.url("votes")
        assert await get(supervisor, "votes", "/readyz") == b"{}"
    assert not gone(pids.values())


async def test_a_process_knows_its_own_role_and_nobody_elses(
    state: StackState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMITIA_DATABASE_PASSWORDS__COMITIA_OWNER", "of a shell")
    async with Supervisor(state, applications=(VOTES,), more={"COMITIA_VOTE_BATCH_MAX": "1"}) as supervisor:
        variables = json.loads(await get(supervisor, "votes", "/environment"))
        assert [name for name in variables if "PASSWORDS" in name] == ["COMITIA_DATABASE_PASSWORDS__COMITIA_VOTING"]
        assert variables["COMITIA_VOTE_BATCH_MAX"] == "1"
        assert variables["COMITIA_BUILD"] == present_source().build
        assert variables["COMITIA_PUBLIC_URL"] == supervisor.url("votes")


async def test_the_voting_worker_is_ready_before_anything_else_starts(state: StackState) -> None:
    broken = Supervisor(state, applications=(VOTES, VOTING), more={"COMITIA_BROKEN": "voting"})
    with pytest.raises(StartError, match="workers-voting ended with status 1"):
        await broken.__aenter__()
    assert broken.pids == {}
    assert not (state.folder / "logs" / "api-votes.log").exists()


async def test_one_that_does_not_start_takes_the_others_down(state: StackState) -> None:
    broken = Supervisor(state, applications=(VOTES, VOTING), more={"COMITIA_BROKEN": "votes"})
    with pytest.raises(StartError, match=r"api-votes ended with status 1(.|\n)*cannot work"):
        await broken.__aenter__()
    assert broken.pids == {}


async def test_whatever_dies_comes_back_and_it_is_said(state: StackState) -> None:
    said: list[str] = []
    async with Supervisor(state, applications=(VOTES,), say=said.append) as supervisor:
        supervisor.keep_running()
        first = supervisor.pids["api-votes"]
        await get(supervisor, "votes", "/die")
        await until(lambda: supervisor.pids.get("api-votes") not in {None, first})
        await supervisor.ready("api-votes")
        second = supervisor.pids["api-votes"]
        await supervisor.processes["api-votes"].kill()
        await until(lambda: supervisor.pids.get("api-votes") not in {None, second})
    assert [line.split(";")[0] for line in said] == ["api-votes ended (status 3)", "api-votes ended (signal SIGKILL)"]
    assert ["0.5 s" in said[0], "1.0 s" in said[1]] == [True, True]
    assert supervisor.pids == {}


async def test_a_kill_leaves_it_down_where_nobody_keeps_it(state: StackState) -> None:
    async with Supervisor(state, applications=(VOTES,)) as supervisor:
        await supervisor.processes["api-votes"].kill()
        assert supervisor.pids == {}
        await supervisor.start("api-votes")
        assert await get(supervisor, "votes", "/readyz") == b"{}"


async def test_a_successor_serves_beside_its_predecessor_until_that_is_stopped(state: StackState) -> None:
    async with Supervisor(state, applications=(VOTES, VOTING)) as supervisor:
        supervisor.keep_running()
        first = supervisor.pids["api-votes"]
        predecessor = await supervisor.succeed("api-votes", Source("another"))
        assert predecessor.pid == first != supervisor.pids["api-votes"]
        assert supervisor.build("api-votes") == "another"
        assert predecessor.environment is not None
        assert predecessor.environment["COMITIA_WORKER_TAKES_OVER"] == "False"
        assert await supervisor.retire(predecessor) == 0
        assert not gone([first])
        assert json.loads(await get(supervisor, "votes", "/environment"))["COMITIA_BUILD"] == "another"
        second = supervisor.pids["api-votes"]
        await get(supervisor, "votes", "/die")  # and is kept running like the first one
        await until(lambda: supervisor.pids.get("api-votes") not in {None, second})
        await supervisor.ready("api-votes")
        again = await supervisor.succeed("api-votes", Source("a third"))
        both = [again.pid, *supervisor.pids.values()]
    assert not gone(pid for pid in both if pid is not None)


async def test_a_successor_that_does_not_start_leaves_everything_as_it_was(state: StackState) -> None:
    async with Supervisor(state, applications=(VOTES, VOTING)) as supervisor:
        first, before = supervisor.pids, supervisor.processes["api-votes"].environment
        supervisor._more["COMITIA_BROKEN"] = "votes"
        with pytest.raises(StartError, match="api-votes ended with status 1"):
            await supervisor.succeed("api-votes", Source("broken"))
        assert supervisor.pids == first
        assert supervisor.processes["api-votes"].environment == before
        assert await get(supervisor, "votes", "/readyz") == b"{}"


@pytest.mark.parametrize(("more", "drain_s"), [({}, 600), ({"COMITIA_WORKER_DRAIN_S": "900"}, 900)])
async def test_a_replaced_worker_is_not_killed_before_its_own_time_is_over(
    state: StackState, more: dict[str, str], drain_s: float
) -> None:
    async with Supervisor(state, applications=(VOTING,), more=more) as supervisor:
        predecessor = await supervisor.succeed("workers-voting", Source("another"))
        assert await supervisor.retire(predecessor) == 0
        assert predecessor.grace_s >= drain_s + WORKER_STOPS_WITHIN_S


async def test_where_everything_ends_nobody_waits_for_what_a_build_began(state: StackState) -> None:
    async with Supervisor(state, applications=(VOTING,)) as supervisor:
        predecessor = await supervisor.succeed("workers-voting", Source("another"))
        predecessor.grace_s = 600.0
    assert predecessor.grace_s < 60
    assert predecessor.pid is None


async def test_the_voting_worker_and_the_votes_services_roll_together(state: StackState) -> None:
    said: list[str] = []
    old = Source("old", Path.cwd())
    async with Supervisor(state, applications=(VOTING, VOTES, RESULTS), source=old) as supervisor:
        with pytest.raises(ValueError, match="nobody"):
            await roll(supervisor, ["nobody"])
        await roll(supervisor, ["api-results"], say=said.append)
        assert [supervisor.build(name) == "old" for name in ("workers-voting", "api-votes", "api-results")] == [
            True,
            True,
            False,
        ]
        said.clear()
        await roll(supervisor, ["api-votes"], say=said.append)
        assert {supervisor.build(name) for name in supervisor.processes} == {present_source().build}
        order = [(line.split(":")[0], "beside" in line) for line in said]
        assert order == [
            ("workers-voting", True),
            ("api-votes", True),
            ("api-votes", False),
            ("workers-voting", False),
        ]
        said.clear()
        await roll(supervisor, ["api-votes"], say=said.append)  # the same build: it goes alone
        assert {line.split(":")[0] for line in said} == {"api-votes"}


def test_ports_are_what_was_wanted(state: StackState) -> None:
    free = Supervisor(state, applications=(VOTES,)).url("votes")
    wanted = int(free.rpartition(":")[2])
    assert Supervisor(state, applications=(VOTES,), wanted_ports={"api-votes": wanted}).url("votes") == free


def test_every_service_has_a_port_of_its_own() -> None:
    assert len({replace(application).port for application in API}) == len(API)
