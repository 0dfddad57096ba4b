"""Logins at 50 a second and at three times that, vendors answering in 20 ms: who is let in, how soon, at what cost.

Two things are timed: the decision, from the start of `AssessLogin` to its record, and what the person waits for over
HTTP, from when the login was due: its proof and its session come before and after that.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
from temporalio.client import Client

from api.auth.login_proofs import code_subject
from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import percentile
from benchmarks.logging_in import LET_IN, PUBLIC_URL, REFUSED, Login, Sent, send_logins
from benchmarks.processes import HOST
from benchmarks.products import pids, services
from benchmarks.report import CheckFailedError, Goal, Line, check_equal, line
from benchmarks.run import Run
from benchmarks.vendors import Vendors, vendors
from domain.accounts import LookupKind, PersonalData
from domain.ids import assess_login_workflow_id
from domain.registration import MAIL_FIELD
from integrations.keys.dpop_keys import ProofKey
from integrations.keys.file_kms import FileKms
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.purposes import KEK_PERSONAL, LOOKUP
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.credentials import PostgresSentCodes
from integrations.postgres.directory import Directory
from integrations.postgres.personal_records import PostgresPersonalRecords
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY

RATE = 50  # logins a second
_SECONDS = 15
_OVER, _OVER_S = 3 * RATE, 4
_WARM_RATE, _WARM_S = 20, 3  # before the clock starts
_CODE = "12345678"
_KEPT = 0.8  # of what is let in, when more comes
_SAMPLE = 200  # executions described
_ATTEMPTS = "SELECT attempt_id FROM identity.login_attempt WHERE voter_id = ANY ($1) AND outcome = 'allowed'"
_SESSIONS = "SELECT count(*) FROM identity.session WHERE voter_id = ANY ($1)"


async def measure(run: Run) -> list[Line]:
    """Let different voters log in, each once by a code from the mail, and count attempts and sessions."""
    found = []
    for processes in (1, 2):
        found += await _measure(run.ground, processes)
    return found


async def _measure(ground: Ground, processes: int) -> list[Line]:
    loads = ((_WARM_RATE, _WARM_S), (RATE, _SECONDS), (_OVER, _OVER_S))
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(vendors(ground))
        names, more = ("workers-identity", "api-auth"), {**there.variables, "COMITIA_PUBLIC_URL": PUBLIC_URL}
        first = await stack.enter_async_context(services(ground, names, more))
        beside = [await stack.enter_async_context(services(ground, names[1:], more)) for _ in range(1, processes)]
        pool = await stack.enter_async_context(_pool(ground))
        voters, logins = await _prepared(ground, pool, there, sum(rate * seconds for rate, seconds in loads))
        await there.slow_down("turnstile", "fingerprint")
        watched = pids(ground, first) | there.pids
        watched |= {f"api-auth-{number}": each.pids["api-auth"] for number, each in enumerate(beside, start=2)}
        urls = [each.url("auth") for each in (first, *beside)]
        sent = []
        for rate, seconds in loads:
            chosen = [logins.pop() for _ in range(rate * seconds)]
            sent.append(await send_logins(ground.folder, urls, chosen, rate, watched))
        rows = await pool.fetch(_ATTEMPTS, voters)
        sessions = await pool.fetchval(_SESSIONS, voters)
        transitions = await _transitions(ground, [row["attempt_id"] for row in rows[-_SAMPLE:]])
    # Whoever was let in has one attempt and one session; an attempt whose caller was answered too late has no session
    let_in = sum(len(each.waits(LET_IN)) for each in sent)
    check_equal("logins", let_in=let_in, sessions=int(sessions))
    if len(rows) < let_in:
        raise CheckFailedError(f"{let_in} were let in by {len(rows)} attempts")
    return _lines(processes, sent[1], sent[2], transitions)


def _lines(processes: int, paced: Sent, over: Sent, transitions: float) -> list[Line]:
    of = f"{processes} process" + ("es" if processes > 1 else "")
    let_in, refused = paced.waits(LET_IN), over.waits(REFUSED)
    goodput = Goal(at_least=round(_KEPT * min(paced.rate, RATE), 1))
    decisions = f"{paced.decisions} from their start to their record, p50 {paced.decision_ms(0.5):.0f} ms"
    refusals = f"{len(refused)} refused, p50 {percentile(refused, 0.5):.1f} ms, from when each was due"
    soon = Goal(at_most=100)
    return [
        line(f"logins let in, {of}", len(let_in) / _SECONDS, "logins/s", Goal(at_least=RATE), paced.summary),
        line(f"a login's decision, {of}, p99", paced.decision_ms(0.99), "ms", soon, decisions),
        line(f"a login over HTTP, {of}, p99", percentile(let_in, 0.99), "ms", soon, "from when each was due"),
        line(f"logins let in of {_OVER}/s, {of}", over.rate, "logins/s", goodput, over.summary),
        line(f"a login that is refused, {of}, p99", percentile(refused, 0.99), "ms", soon, refusals),
        line(f"state transitions per login, {of}", transitions, "transitions", detail=f"{_SAMPLE} executions"),
    ]


@asynccontextmanager
async def _pool(ground: Ground) -> AsyncIterator[asyncpg.Pool]:
    settings = ground.state.settings_for(IDENTITY)
    pool = await open_pool(settings.cells[CELL].database, settings, IDENTITY)
    try:
        yield pool
    finally:
        await pool.close()


async def _prepared(ground: Ground, pool: asyncpg.Pool, there: Vendors, count: int) -> tuple[list[str], list[Login]]:
    """Make voters with an address, personal data and a code, and everything that their clients bring."""
    assert ground.settings.keys_folder is not None
    keys = FileKms(ground.settings.keys_folder, frozenset({LOOKUP, KEK_PERSONAL}))
    hashes, records = KeyedLookupHashes(keys), PostgresPersonalRecords(pool, keys)
    accounts, codes = PostgresAccounts(pool, CELL), PostgresSentCodes(pool, hashes)
    voters = list(await Directory(pool, CELL).create_voters(count, "DE"))
    nonces = [secrets.token_hex(16) for _ in voters]
    brought = await there.people("login", nonces, HOST)

    async def prepare(voter_id: str, nonce: str, token: str, event: str) -> Login:
        mail = f"{secrets.token_hex(8)}@example.org"
        await records.put(voter_id, PersonalData({MAIL_FIELD: mail}))
        await accounts.add_lookup(voter_id, LookupKind.MAIL, await hashes.every(LookupKind.MAIL, mail))
        await codes.put(code_subject(voter_id, nonce), _CODE)
        body = {
            "method": "mail_code",
            "mail": mail,
            "code": _CODE,
            "nonce": nonce,
            "challengeToken": token,
            "deviceEventId": event,
        }
        return Login(json.dumps(body).encode(), ProofKey.generate())

    made: list[Login] = []
    for start in range(0, count, RATE):
        chosen = range(start, min(count, start + RATE))
        made += await asyncio.gather(*(prepare(voters[each], nonces[each], *brought[each]) for each in chosen))
    return voters, made


async def _transitions(ground: Ground, attempts: list[str]) -> float:
    address = ground.settings.cells[CELL].temporal
    client = await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)
    total = 0
    for attempt_id in attempts:
        described = await client.get_workflow_handle(assess_login_workflow_id(CELL, attempt_id)).describe()
        total += described.raw_description.workflow_execution_info.state_transition_count
    return total / max(1, len(attempts))
