"""Real servers for every test that wants them: started once per run, or those of a running stack.

`COMITIA_TEST_STACK=.comitia` uses the servers that `comitia up --servers-only` keeps running, and saves their start.
Tests keep apart by fresh ids, never by emptying anything.
"""

import gc
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import structlog
from xdist.scheduler import LoadScopeScheduling

from comitia.stack import postgres
from comitia.stack.servers import Servers
from comitia.stack.state import StackState, read_state
from integrations.postgres.roles import OWNER
from integrations.settings import Environment, Settings
from tests.data_home import data_home
from tests.end_to_end.house import House, end_at_once, open_house

OwnerPool = Callable[[str], Awaitable[asyncpg.Pool]]
SettingsFor = Callable[..., Settings]


# Tests in the order in which they run: in one test process those that share the house, last those that break it; in
# another one those that want a broker, whose start and idle rounds cost more than the other servers' together; module
# by module those that start servers of their own, then what waits long, and last what is over soon, so that no test
# process is left with the longest
_HOUSE, _KAFKA = "house", "kafka"
_PLACES = (
    (_HOUSE, re.compile(r"tests/end_to_end/")),
    (_HOUSE, re.compile(r"tests/(comitia/(test_platform|test_readme|demo/test_demo)|api/http/test_forced_states)\.py")),
    (_HOUSE, re.compile(r"tests/faults/")),
    (_KAFKA, re.compile(r"tests/(api/(results|streams|votes)|comitia/tally|integrations/kafka|reconciliation)/")),
    (_KAFKA, re.compile(r"tests/(api/surveys/test_killed_worker|integrations/redis/test_tally_store)\.py")),
    (_KAFKA, re.compile(r"tests/workers/test_(folding|outages|strange_keys)\.py")),
    ("", re.compile(r"tests/comitia/(test_up|demo/test_identity|stack/test_postgres_pair)\.py")),
    ("", re.compile(r"tests/(workflows|workers|api|browser)/")),
    ("", re.compile(r"tests/(?!domain/|contracts/|replay/)")),
)


def _place(nodeid: str) -> tuple[int, str]:
    """Return when a test runs, and what it shares a test process with."""
    module = nodeid.partition("::")[0]
    for place, (group, modules) in enumerate(_PLACES):
        if modules.match(module):
            return place, group or module
    return len(_PLACES), module


class _Grouped(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _place(nodeid)[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Grouped:
    """Keep what shares a house or a broker in one test process: a second one costs more than it wins on two cores."""
    return _Grouped(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage among the modules and thousands of tests that are there until the end anyway."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests. Raises UsageError for one that wants what it is not among those to share."""
    for item in items:
        _, group = _place(item.nodeid)
        wanted = getattr(item, "fixturenames", ())
        if (group != _HOUSE and _HOUSE in wanted and _shared(item)) or (group != _KAFKA and _KAFKA in wanted):
            raise pytest.UsageError(
                f"{item.nodeid} wants what a group of tests shares: see _PLACES in tests/conftest.py"
            )
    items.sort(key=lambda item: _place(item.nodeid)[0])


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the house after the last of its tests: idle, its processes slow down everything that comes later."""
    before, after = (_place(each.nodeid)[1] if each else "" for each in (item, nextitem))
    if nextitem is not None and before == _HOUSE != after:
        for definition in _shared(item):
            definition.finish(item._request)  # type: ignore[attr-defined]


def _shared(item: pytest.Item) -> Sequence[pytest.FixtureDef[Any]]:
    """Return the fixture `house` of this file where that is what an item gets by the name, and not another."""
    found = item.session._fixturemanager.getfixturedefs(_HOUSE, item) or ()
    return found if [definition.baseid for definition in found] == [Path(__file__).parent.name] else ()


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Take back what a command or a `__main__` module configured: its stream ends with its test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def stack_folder() -> Iterator[Path]:
    """An empty folder that PostgreSQL's account can reach too, which pytest's own folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="comitia-test-", dir=data_home()))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class _Servers(Servers):
    """Servers whose broker waits for the first test that wants it."""

    async def _start_kafka(self) -> None:
        pass

    async def start_broker(self) -> None:
        await super()._start_kafka()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _started(stack_folder: Path) -> AsyncIterator[_Servers | None]:
    if os.environ.get("COMITIA_TEST_STACK"):
        yield None
        return
    async with _Servers(stack_folder) as started:
        yield started
        await end_at_once(started.processes.values())
    postgres.forget(started.state.stack_id)


@pytest.fixture(scope="session")
def servers(_started: _Servers | None) -> StackState:
    """Addresses and secrets of the four servers, databases migrated; whoever speaks with Kafka wants `kafka` too."""
    if _started is not None:
        return _started.state
    running = os.environ["COMITIA_TEST_STACK"]
    state = read_state(Path(running))
    if state is None or not state.supervisor_pid:
        pytest.fail(f"COMITIA_TEST_STACK={running}: no stack runs there")
    return state


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka(_started: _Servers | None) -> None:
    """Kafka, listening at its address in the settings."""
    if _started is not None:
        await _started.start_broker()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house() -> AsyncIterator[House]:
    """A platform with servers of its own, for tests that use all of it, read all that it keeps, or kill and stop it."""
    with tempfile.TemporaryDirectory(prefix="comitia-house-", dir=data_home()) as folder:
        async with open_house(Path(folder)) as opened:
            yield opened


@pytest.fixture(scope="session")
def settings_for(servers: StackState) -> SettingsFor:
    """`settings_for(*roles, **fields)`: the settings of a process that serves as these roles."""

    def make(*roles: str, **fields: Any) -> Settings:
        return servers.settings_for(*roles, environment=Environment.TEST, **{"worker_drain_s": 5.0, **fields})

    return make


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def owner_pool(servers: StackState) -> AsyncIterator[OwnerPool]:
    """`await owner_pool("eu")`: connections as the owner of every schema, to look at what was written.

    The name `catalogue` is the database of surveys.
    """
    pools: dict[str, asyncpg.Pool] = {}
    async with AsyncExitStack() as opened:

        async def pool_of(name: str) -> asyncpg.Pool:
            if name not in pools:
                address = servers.database(name)
                pool = await asyncpg.create_pool(
                    host=address.host,
                    port=address.port,
                    database=address.name,
                    user=OWNER,
                    password=servers.password(OWNER),
                    ssl="disable",
                    min_size=0,
                    max_size=4,
                )
                opened.push_async_callback(pool.close)
                pools[name] = pool
            return pools[name]

        yield pool_of
