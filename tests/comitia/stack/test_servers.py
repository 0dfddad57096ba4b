import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from comitia.stack import ports
from comitia.stack.probes import http_json
from comitia.stack.process import ManagedProcess, StartError
from comitia.stack.servers import FolderInUseError, Servers
from comitia.stack.state import StackState, read_state
from comitia.stack.temporal import binary
from integrations.postgres.pool import durability, open_pool
from integrations.postgres.roles import CELL_ROLES, TALLY, VOTING
from integrations.settings import Settings
from workflows.search_attributes import ALL

OwnerPool = Callable[[str], Awaitable[asyncpg.Pool]]
SettingsFor = Callable[..., Settings]


def replacing(state: StackState, *servers: str) -> dict[str, str]:
    """The variables that name some servers of a running stack."""
    parts = ("__DATABASE__", "__REDIS__", "__KAFKA__", "__TEMPORAL__", "COMITIA_CATALOGUE__", "PLATFORM_TEMPORAL__")
    wanted = [part for part in parts if any(server.upper() in part for server in servers)]
    return {n: v for n, v in state.settings_environment().items() if any(part in n for part in wanted)}


async def test_a_service_connects_as_its_own_role(settings_for: SettingsFor) -> None:
    settings = settings_for(VOTING)
    pool = await open_pool(settings.cells["eu"].database, settings, VOTING)
    try:
        assert await pool.fetchval("SELECT current_user") == VOTING
    finally:
        await pool.close()


async def test_a_role_with_no_business_there_cannot_connect(settings_for: SettingsFor) -> None:
    settings = settings_for(TALLY)
    assert settings.catalogue is not None
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await open_pool(settings.catalogue, settings, TALLY)


async def test_a_wrong_password_is_refused(settings_for: SettingsFor) -> None:
    settings = settings_for(VOTING, database_passwords={VOTING: "guess"})
    with pytest.raises(asyncpg.InvalidPasswordError):
        await open_pool(settings.cells["eu"].database, settings, VOTING)


async def test_nobody_has_a_right_by_being_public(owner_pool: OwnerPool) -> None:
    for name in ("eu", "us", "catalogue"):
        pool = await owner_pool(name)
        assert await pool.fetchval("SELECT has_schema_privilege('public', 'public', 'USAGE')") is False
        assert await pool.fetchval("SELECT has_database_privilege('public', current_database(), 'CONNECT')") is False


async def test_roles_are_no_more_than_services(owner_pool: OwnerPool) -> None:
    pool = await owner_pool("eu")
    rows = await pool.fetch(
        "SELECT rolname, rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls OR rolreplication AS mighty"
        " FROM pg_roles WHERE rolname = ANY($1::text[])",
        list(CELL_ROLES),
    )
    assert len(rows) == len(CELL_ROLES)
    assert not [row["rolname"] for row in rows if row["mighty"]]


async def test_commits_are_durable(owner_pool: OwnerPool) -> None:
    found = await durability(await owner_pool("us"))
    assert found["fsync"] == found["synchronous_commit"] == "on"


async def test_the_log_of_the_database_says_no_value(owner_pool: OwnerPool, servers: StackState) -> None:
    pool = await owner_pool("eu")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await pool.execute("SELECT 'zq-in-a-' || 'statement' || (1 / 0)::text")
    with pytest.raises(asyncpg.UniqueViolationError):
        await pool.execute(
            "DO $$ BEGIN CREATE TEMP TABLE once (word text UNIQUE);"
            " INSERT INTO once VALUES ('zq-in-a-value'), ('zq-in-a-value'); END $$"
        )
    log = (servers.folder / "logs" / "postgres.log").read_text()
    assert "division by zero" in log
    assert "zq-in-a" not in log


def test_a_folder_holds_one_stack(servers: StackState) -> None:
    second = Servers(servers.folder, environment={})
    with pytest.raises(FolderInUseError):
        second._take_folder()
    state = read_state(servers.folder)
    assert state is not None
    assert state.pids == servers.pids


async def test_nothing_is_started_for_what_the_environment_names(servers: StackState, tmp_path: Path) -> None:
    environment = replacing(servers, "redis", "kafka", "temporal", "database", "catalogue")
    async with Servers(tmp_path, environment=environment) as others:
        assert others.processes == {}
        ours, theirs = servers.settings_for(), others.state.settings_for()
    assert theirs.cells == ours.cells
    assert (theirs.catalogue, theirs.platform_temporal) == (ours.catalogue, ours.platform_temporal)


async def test_one_server_can_be_ours_and_stops_alone(servers: StackState, tmp_path: Path) -> None:
    environment = replacing(servers, "kafka", "temporal", "database", "catalogue")
    async with Servers(tmp_path, environment=environment) as others:
        assert list(others.processes) == ["redis"]
        theirs = others.state.settings_for()
        assert theirs.cells["eu"].redis.port != servers.settings_for().cells["eu"].redis.port
        assert theirs.cells["us"].kafka == servers.settings_for().cells["us"].kafka
        before = others.processes["redis"].pid
        await others.stop("redis")
        await others.start("redis")
        assert others.state.pids["redis"] not in {0, before}
    stopped = read_state(tmp_path)
    assert stopped is not None
    assert (stopped.pids, stopped.supervisor_pid) == ({}, 0)


async def test_search_attributes_that_are_new_reach_old_data(servers: StackState, tmp_path: Path) -> None:
    environment = replacing(servers, "kafka", "redis", "database", "catalogue")
    async with Servers(tmp_path, environment=environment) as others:
        port = others.state.ports["temporal-http"]
        path = "/api/v1/namespaces/eu/search-attributes"
        at_first = (await http_json(ports.HOST, port, path))["customAttributes"]
        assert at_first.keys() == {key.name for key in ALL}
        remove = ["operator", "search-attribute", "remove", "--yes", "--namespace", "eu", "--name", ALL[0].name]
        address = ["--address", f"{ports.HOST}:{others.state.ports['temporal']}"]
        assert await ManagedProcess("remove", [str(binary()), *remove, *address], tmp_path / "log").finish() == 0
        await others.stop("temporal")
        await others.start("temporal")
        assert (await http_json(ports.HOST, port, path))["customAttributes"] == at_first


async def test_a_server_that_cannot_start_says_why(servers: StackState, tmp_path: Path) -> None:
    environment = replacing(servers, "kafka", "temporal", "database", "catalogue")
    others = Servers(tmp_path, environment=environment)
    with socket.create_server((ports.HOST, 0)) as taken:
        others._wanted["redis"] = taken.getsockname()[1]
        number = others._wanted["redis"]
        ports_of = others._next_state
        others._next_state = lambda: ports_of().model_copy(update={"ports": {**ports_of().ports, "redis": number}})  # type: ignore[method-assign]
        with pytest.raises(StartError, match=re.compile("redis ended with status 1.*in use", re.DOTALL)):
            await others.__aenter__()
    assert others.processes["redis"].pid is None
