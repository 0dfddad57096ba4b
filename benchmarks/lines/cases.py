"""What support waits for: a case found among a million, and the timeline of a long one."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import asyncpg
import httpx
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import percentile
from benchmarks.products import services
from benchmarks.report import CheckFailedError, Goal, Line, check_equal, line
from benchmarks.run import Run
from benchmarks.vendors import vendors
from comitia.demo.people import Person
from comitia.demo.people import Vendors as Pages
from comitia.tokens import open_access_tokens
from domain.accounts import LookupKind
from domain.ids import verify_identity_workflow_id
from domain.tokens import Role
from integrations.keys.file_kms import FileKms
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.purposes import LOOKUP
from integrations.postgres.roles import IDENTITY

VOTERS = 200_000
LOGINS = 4  # of each, beside the registration: a million cases
EVENTS = 500
_FILLED_AT_ONCE = 20_000  # voters in a transaction
_SEARCHED = 300  # voters, each by mail, by voter reference and by registration
_SEARCHERS = 4
_READ = 60  # times that the timeline is read
_GROWN_WITHIN_S = 300.0
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
        lines.append(await _timeline(client, person.registration, events))
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


async def _timeline(client: httpx.AsyncClient, registration_id: str, events: int) -> Line:
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
        steps.add(len(answer.json()["steps"]))
    if min(steps) == 0:
        raise CheckFailedError(f"{path} has no steps")
    took.sort()
    detail = f"{events} events, {max(steps)} steps; p50 {percentile(took, 0.5):.0f} ms of {_READ}, one after the other"
    return line(f"a timeline of {EVENTS} events, p99", percentile(took, 0.99), "ms", Goal(at_most=500), detail)
