"""Logins at 50 a second, with vendors that answer in 20 ms: how long a person waits, and what it costs Temporal."""

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import httpx
from temporalio.client import Client

from api.auth.login_proofs import code_subject
from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import percentile
from benchmarks.processes import HOST, PYTHON, CpuWatch, running
from benchmarks.products import pids, services
from benchmarks.report import CheckFailedError, Goal, Line, check_equal, line
from benchmarks.run import Run
from comitia.stack import ports
from domain.accounts import LookupKind
from domain.ids import assess_login_workflow_id
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.keys.file_kms import FileKms
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.purposes import LOOKUP
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.credentials import PostgresSentCodes
from integrations.postgres.directory import Directory
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY

RATE = 50  # logins a second
_VENDOR_S = 0.02
_SECONDS = 20
_WARM = RATE * 2  # logins before the clock starts
_CODE = "12345678"
_PATH = "/v1/auth/logins"
_OK = 200
_SAMPLE = 200  # executions described
_ATTEMPTS = "SELECT attempt_id FROM identity.login_attempt WHERE voter_id = ANY ($1) AND outcome = 'allowed'"
_SESSIONS = "SELECT count(*) FROM identity.session WHERE voter_id = ANY ($1)"


@dataclass(frozen=True, slots=True)
class _Login:
    """A login that is ready to be sent."""

    body: bytes
    key: ProofKey


async def measure(run: Run) -> list[Line]:
    """Let different voters log in, each once by a code from the mail, and count attempts and sessions."""
    ground = run.ground
    port = ports.choose(["sandboxes"], {}, taken=ground.state.ports.values())["sandboxes"]
    address = f"http://{HOST}:{port}"
    named = {
        "COMITIA_ENVIRONMENT": "development",
        "COMITIA_TURNSTILE__BASE_URL": f"{address}/turnstile/v0",
        "COMITIA_TURNSTILE__SECRET": "of the benchmark",
        "COMITIA_TURNSTILE__HOSTNAMES": '["localhost"]',
        "COMITIA_FINGERPRINT__BASE_URL": f"{address}/fingerprint/eu/v4",
        "COMITIA_FINGERPRINT__API_KEY": "of the benchmark",
    }
    listening = {**named, "COMITIA_LISTEN_HOST": HOST, "COMITIA_LISTEN_PORT": str(port)}
    command = (PYTHON, "-m", "integrations.sandboxes")
    async with (
        running("sandboxes", command, ground.log("sandboxes"), listening, port=port, path="/livez"),
        services(ground, ("workers-identity", "api-auth"), named) as supervisor,
        httpx.AsyncClient(base_url=address, timeout=30, trust_env=False) as vendors,
        _pool(ground) as pool,
    ):
        voters, logins = await _prepared(ground, pool, vendors, _WARM + RATE * _SECONDS)
        await _slow_down(vendors)
        url = supervisor.url("auth")
        unbounded = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, limits=unbounded) as client:
            warm = await _send(client, url, logins[:_WARM])
            watch = CpuWatch(pids(ground, supervisor))
            watch.start()
            answers = await _send(client, url, logins[_WARM:])
            cores = ", ".join(f"{name} {value:.2f}" for name, value in watch.cores().items() if value >= 0.005)
        rows = await pool.fetch(_ATTEMPTS, voters)
        sessions = await pool.fetchval(_SESSIONS, voters)
        transitions = await _transitions(ground, [row["attempt_id"] for row in rows[-_SAMPLE:]])
    statuses = Counter(status for status, _ in answers)
    let_in = statuses[_OK] + sum(status == _OK for status, _ in warm)
    # Whoever was let in has one attempt and one session; an attempt whose caller was answered too late has no session
    checked = check_equal("logins", let_in=let_in, sessions=int(sessions))
    if len(rows) < let_in:
        raise CheckFailedError(f"{let_in} were let in by {len(rows)} attempts")
    waits = sorted(seconds * 1000 for _, seconds in answers)
    detail = (
        f"{RATE}/s for {_SECONDS} s, vendors at 20 ms, p50 {percentile(waits, 0.5):.0f} ms; answers {dict(statuses)}; "
        f"cores: {cores}; {checked}, attempts {len(rows):,}"
    )
    return [
        line("logins let in", statuses[_OK] / _SECONDS, "logins/s", Goal(at_least=RATE), detail),
        line("a login over HTTP, p99", percentile(waits, 0.99), "ms", Goal(at_most=100), detail),
        line("state transitions per login", transitions, "transitions", detail=f"{min(len(rows), _SAMPLE)} executions"),
    ]


@asynccontextmanager
async def _pool(ground: Ground) -> AsyncIterator[asyncpg.Pool]:
    settings = ground.state.settings_for(IDENTITY)
    pool = await open_pool(settings.cells[CELL].database, settings, IDENTITY)
    try:
        yield pool
    finally:
        await pool.close()


async def _prepared(
    ground: Ground, pool: asyncpg.Pool, vendors: httpx.AsyncClient, count: int
) -> tuple[list[str], list[_Login]]:
    """Make voters with an address and a code, and everything that their clients bring."""
    assert ground.settings.keys_folder is not None
    hashes = KeyedLookupHashes(FileKms(ground.settings.keys_folder, frozenset({LOOKUP})))
    accounts, codes = PostgresAccounts(pool, CELL), PostgresSentCodes(pool, hashes)
    await vendors.put("/fingerprint/_control/limits", json={"perSecond": 100_000, "burst": 100_000})
    voters = list(await Directory(pool, CELL).create_voters(count, "DE"))

    async def prepare(voter_id: str) -> _Login:
        mail, nonce = f"{secrets.token_hex(8)}@example.org", secrets.token_hex(16)
        await accounts.add_lookup(voter_id, LookupKind.MAIL, await hashes.every(LookupKind.MAIL, mail))
        await codes.put(code_subject(voter_id, nonce), _CODE)
        token = await vendors.post("/turnstile/_control/tokens", json={"action": "login", "cdata": nonce})
        event = await vendors.post(
            "/fingerprint/_control/events", json={"linkedId": nonce, "readableAfterMs": 0, "ipAddress": HOST}
        )
        body = {
            "method": "mail_code",
            "mail": mail,
            "code": _CODE,
            "nonce": nonce,
            "challengeToken": token.json()["token"],
            "deviceEventId": event.json()["eventId"],
        }
        return _Login(json.dumps(body).encode(), ProofKey.generate())

    made: list[_Login] = []
    for start in range(0, count, RATE):
        made += await asyncio.gather(*(prepare(voter_id) for voter_id in voters[start : start + RATE]))
    return voters, made


async def _slow_down(vendors: httpx.AsyncClient) -> None:
    for vendor in ("turnstile", "fingerprint"):
        fault = {"kind": "slow", "delayS": _VENDOR_S, "count": 1_000_000}
        answer = await vendors.post(f"/{vendor}/_control/faults", json=fault)
        answer.raise_for_status()


async def _send(client: httpx.AsyncClient, url: str, logins: list[_Login]) -> list[tuple[int, float]]:
    """Send logins evenly, however long the ones before take; return statuses and seconds."""
    began = time.monotonic()

    async def send(number: int, login: _Login) -> tuple[int, float]:
        due = began + number / RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        proof = make_proof(login.key, "POST", f"{url}{_PATH}", time.time(), body=login.body)
        headers = {"dpop": proof, "content-type": "application/json", "user-agent": "benchmark/1.0"}
        sent = time.monotonic()
        answer = await client.post(_PATH, content=login.body, headers=headers)
        return answer.status_code, time.monotonic() - sent

    return await asyncio.gather(*(send(number, login) for number, login in enumerate(logins)))


async def _transitions(ground: Ground, attempts: list[str]) -> float:
    address = ground.settings.cells[CELL].temporal
    client = await Client.connect(f"{address.host}:{address.port}", namespace=address.namespace)
    total = 0
    for attempt_id in attempts:
        described = await client.get_workflow_handle(assess_login_workflow_id(CELL, attempt_id)).describe()
        total += described.raw_description.workflow_execution_info.state_transition_count
    return total / max(1, len(attempts))
