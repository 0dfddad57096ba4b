"""What support waits for: a case found among a million, and the timeline of a long one."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import asyncpg
import httpx
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from activities.history_archive import HistoryArchiveActivities
from benchmarks.ground import CELL, Ground
from benchmarks.lines.archive import Silent
from benchmarks.load.spec import percentile
from benchmarks.products import services
from benchmarks.report import CheckFailedError, Goal, Line, check_equal, line
from benchmarks.run import Run
from benchmarks.vendors import vendors
from comitia.demo.people import Person
from comitia.demo.people import Vendors as Pages
from comitia.tokens import open_access_tokens
from domain.accounts import LookupKind
from domain.archive_ports import ArchiveCell
from domain.contracts.archive import ClosedExecution, HistoryPack
from domain.ids import register_voter_workflow_id, verify_identity_workflow_id
from domain.tokens import Role
from integrations.keys.file_kms import FileKms
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.purposes import LOOKUP
from integrations.objects.log_objects import open_log_objects
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT, IDENTITY
from integrations.temporal.closed_histories import TemporalClosedHistories

VOTERS = 200_000
LOGINS = 4  # of each, beside the registration: a million cases
EVENTS = 500
_FILLED_AT_ONCE = 20_000  # voters in a transaction
_SEARCHED = 300  # voters, each by mail, by voter reference and by registration
_SEARCHERS = 4
_READ = 60  # times that the timeline is read
_GROWN_WITHIN_S = 300.0
_DROPPED_WITHIN_S = 180.0
_OK = 200

# Ids of the alphabet of ours, made of a number: the numbers from $1 on, $2 of them
_NAMED = """
WITH named AS (
    SELECT number, left(translate(md5('case ' || number), '0189', 'ghij'), 26) AS name
    FROM generate_series($1::int, $1 + $2::int - 1) AS number
)
"""
_FILL = (
    """
    INSERT INTO identity.voter (voter_id, region) SELECT 'v_eu_' || name, 'DE' FROM named
    """,
    """
    INSERT INTO identity.registration (registration_id, voter_id, region, stage, revision)
    SELECT 'r_eu_' || name, 'v_eu_' || name, 'DE', 'active', 5 FROM named
    """,
    """
    INSERT INTO identity.login_attempt (attempt_id, voter_id, method, jkt, network, provider, decision, score_permille,
        reasons, policy_version, signals, factors, at, outcome, ended_at)
    SELECT 'a_eu_' || left(translate(md5('login ' || login || ' ' || number), '0189', 'ghij'), 26), 'v_eu_' || name,
        'password', repeat('k', 43), sha256(name::bytea), '', 'ALLOW', 10, '{}', 1, '{}', '{}',
        now() - login * interval '1 day', 'opened', now() - login * interval '1 day'
    FROM named CROSS JOIN generate_series(1, %(logins)d) AS login
    """,
)
_FOUND_BY = """
INSERT INTO identity.lookup (kind, key_id, digest, voter_id)
SELECT 'mail', key_id, digest, 'v_eu_' || left(translate(md5('case ' || number), '0189', 'ghij'), 26)
FROM unnest($1::int[], $2::text[], $3::bytea[]) AS found (number, key_id, digest)
"""
_COUNTED = """
SELECT (SELECT count(*) FROM identity.registration) + (SELECT count(*) FROM identity.login_attempt)
"""


async def measure(run: Run) -> list[Line]:
    """Fill a cell, ask for people of whom everything is known, then read a case whose process has come far."""
    ground = run.ground
    began = time.monotonic()
    before = int(await ground.owner.fetchval(_COUNTED))
    await _fill(ground)
    cases = int(await ground.owner.fetchval(_COUNTED)) - before
    filled = check_equal("cases", wanted=VOTERS * (1 + LOGINS), there=cases)
    run.say(f"  filled in {time.monotonic() - began:.0f} s")
    tokens = await open_access_tokens(ground.state.settings_for(IDENTITY))
    headers = {"authorization": f"Bearer {tokens.staff('u_benchmark', [Role.SUPPORT])}"}
    async with (
        vendors(ground) as there,
        services(ground, ("workers-identity", "api-auth", "api-support"), there.variables) as supervisor,
        httpx.AsyncClient(base_url=supervisor.url("auth"), timeout=60, trust_env=False) as auth,
        httpx.AsyncClient(base_url=supervisor.url("support"), headers=headers, timeout=60, trust_env=False) as client,
    ):
        lines = [await _search(client, filled)]
        person = Person(auth, Pages(there.control), lambda _: None)
        await person.register(CELL)
        await person.prove_mail()
        await person.until("proofing")
        events = await _grow(ground, person.registration)
        lines.append(await _timeline(client, person.registration, events, "server"))
        await _drop(ground, person.registration)
        lines.append(await _timeline(client, person.registration, events, "archive"))
    return lines


async def _fill(ground: Ground) -> None:
    assert ground.settings.keys_folder is not None
    hashes = KeyedLookupHashes(FileKms(ground.settings.keys_folder, frozenset({LOOKUP})))
    for start in range(0, VOTERS, _FILLED_AT_ONCE):
        numbers = range(start, start + _FILLED_AT_ONCE)
        found = [(await hashes.newest(LookupKind.MAIL, _mail(number))) for number in numbers]
        async with ground.owner.acquire() as connection, connection.transaction():
            for statement in _FILL:
                await connection.execute(_NAMED + statement.replace("%(logins)d", str(LOGINS)), start, _FILLED_AT_ONCE)
            await connection.execute(
                _FOUND_BY, list(numbers), [each.key_id for each in found], [each.digest for each in found]
            )
    await _settle(ground.owner)


async def _settle(owner: asyncpg.Pool) -> None:
    await owner.execute("VACUUM ANALYZE identity.voter, identity.registration, identity.login_attempt, identity.lookup")


def _mail(number: int) -> str:
    return f"person-{number}@example.org"


def _name(number: int) -> str:
    """Return what `_NAMED` makes of a number."""
    made = hashlib.md5(f"case {number}".encode(), usedforsecurity=False).hexdigest()
    return made.translate(str.maketrans("0189", "ghij"))[:26]


async def _search(client: httpx.AsyncClient, filled: str) -> Line:
    step = VOTERS // _SEARCHED
    asked = [
        (parameter, value, cases)
        for number in range(0, VOTERS, step)
        for parameter, value, cases in (
            ("mail", _mail(number), 1 + LOGINS),
            ("voter", f"v_eu_{_name(number)}", 1 + LOGINS),
            ("registration", f"r_eu_{_name(number)}", 1),
        )
    ]
    took: dict[str, list[float]] = {}
    right = 0

    async def ask(parameter: str, value: str, cases: int) -> None:
        nonlocal right
        began = time.perf_counter()
        answer = await client.get("/v1/support/cases", params={parameter: value})
        took.setdefault(parameter, []).append(1000 * (time.perf_counter() - began))
        right += answer.status_code == _OK and len(answer.json()["cases"]) == cases

    for parameter, value, cases in asked[:30]:
        await ask(parameter, value, cases)
    took.clear()
    right = 0
    await _together([partial(ask, *each) for each in asked])
    checked = check_equal("searches", asked=len(asked), right=right)
    every = sorted(one for each in took.values() for one in each)
    kinds = ", ".join(f"{kind} {percentile(sorted(each), 0.99):.0f} ms" for kind, each in took.items())
    detail = (
        f"{filled}; {len(asked)} searches, {_SEARCHERS} at once, p50 {percentile(every, 0.5):.0f} ms; p99 by {kinds}; "
    )
    return line(
        f"a search in {VOTERS * (1 + LOGINS):,} cases, p99",
        percentile(every, 0.99),
        "ms",
        Goal(at_most=300),
        detail + checked,
    )


async def _together(calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    await asyncio.gather(*(work() for _ in range(_SEARCHERS)))


async def _grow(ground: Ground, registration_id: str) -> int:
    """Tell a case again and again that something may have changed, until its history is long; return its events."""
    address = ground.settings.cells[CELL].temporal
    client = await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)
    handle = client.get_workflow_handle(verify_identity_workflow_id(CELL, registration_id, 1))
    give_up_at = time.monotonic() + _GROWN_WITHIN_S
    while (events := await _events(handle)) < EVENTS:
        if time.monotonic() > give_up_at:
            raise CheckFailedError(f"{events} events after {_GROWN_WITHIN_S:.0f} s")
        if events:
            await handle.signal("evidence_received")
        await asyncio.sleep(0.05)
    return events


async def _events(handle: WorkflowHandle[Any, Any]) -> int:
    """Return how long a history is; 0 where there is none yet: a registration says that it is proofed, then begins."""
    try:
        return (await handle.describe()).history_length
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return 0


async def _drop(ground: Ground, registration_id: str) -> None:
    """End a case, archive it, and have the server drop it as it does after its retention."""
    settings = ground.state.settings_for(AUDIT)
    address, pool = settings.cells[CELL].temporal, await open_pool(settings.cells[CELL].database, settings, AUDIT)
    client = await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)
    registering, verifying = (
        register_voter_workflow_id(CELL, registration_id),
        verify_identity_workflow_id(CELL, registration_id, 1),
    )
    await client.get_workflow_handle(registering).terminate()  # and the other with it
    closed = (await _closed(client, registering), await _closed(client, verifying))
    of = {CELL: ArchiveCell(TemporalClosedHistories(client), PostgresArchive(pool))}
    archiving, environment = HistoryArchiveActivities(of, open_log_objects(settings), Silent()), ActivityEnvironment()
    written = await environment.run(archiving.write_history_pack, HistoryPack(cell=CELL, executions=closed))
    await environment.run(archiving.note_history_pack, written)
    await pool.close()
    for each in closed:
        run = WorkflowExecution(workflow_id=each.workflow_id, run_id=each.run_id)
        request = DeleteWorkflowExecutionRequest(namespace=address.namespace, workflow_execution=run)
        await client.workflow_service.delete_workflow_execution(request)
    for each in closed:
        await _until(partial(_is_gone, client, each.workflow_id), f"{each.workflow_id} is still there")


async def _closed(client: Client, workflow_id: str) -> ClosedExecution:
    handle = client.get_workflow_handle(workflow_id)

    async def is_closed() -> bool:
        return (await handle.describe()).close_time is not None

    await _until(is_closed, f"{workflow_id} is still open")
    found = await handle.describe()
    assert found.close_time is not None
    return ClosedExecution(
        workflow_id=workflow_id,
        run_id=found.run_id,
        workflow_type=found.workflow_type,
        started_at=found.start_time,
        closed_at=found.close_time,
    )


async def _is_gone(client: Client, workflow_id: str) -> bool:
    return await _events(client.get_workflow_handle(workflow_id)) == 0


async def _until(look: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    give_up_at = time.monotonic() + _DROPPED_WITHIN_S
    while not await look():
        if time.monotonic() > give_up_at:
            raise CheckFailedError(otherwise)
        await asyncio.sleep(0.1)


async def _timeline(client: httpx.AsyncClient, registration_id: str, events: int, source: str) -> Line:
    path = f"/v1/support/cases/{registration_id}/timeline"
    took: list[float] = []
    steps: set[int] = set()
    for number in range(_READ + 3):
        began = time.perf_counter()
        answer = await client.get(path)
        if number >= 3:
            took.append(1000 * (time.perf_counter() - began))
        if answer.status_code != _OK:
            raise CheckFailedError(answer.text)
        steps.add(sum(step["source"] == source for step in answer.json()["steps"]))
    if min(steps) == 0:
        raise CheckFailedError(f"{path} has no steps of the {source}")
    took.sort()
    detail = f"{events} events, {max(steps)} steps; p50 {percentile(took, 0.5):.0f} ms of {_READ}, one after the other"
    of = "" if source == "server" else f" out of the {source}"
    return line(f"a timeline of {EVENTS} events{of}, p99", percentile(took, 0.99), "ms", Goal(at_most=500), detail)
