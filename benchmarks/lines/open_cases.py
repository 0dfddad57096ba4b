"""Ten thousand open cases of identity proofing, all waiting: what they cost a worker, and what its restart does.

While no worker is there, 500 webhooks a second tell of them; none of it may be lost. The executions begin before there
is a worker, so that it opens them all at the provider's sandbox before the first is due to be looked at again: begun
one by one, the early ones were looked at four times before the last was open, which took longer than all the rest.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from benchmarks.ground import CELL, Ground
from benchmarks.load.spec import Entry, LoadSpec, percentile, read_journal, write_requests
from benchmarks.processes import memory_bytes, run_load
from benchmarks.products import services
from benchmarks.report import CheckFailedError, Goal, Line, check_equal, line
from benchmarks.run import Run
from benchmarks.vendors import Vendors, vendors
from comitia.stack.supervisor import Supervisor
from domain.contracts.registration import RegistrationRules, VerifyIdentityInput
from domain.ids import new_registration_id, new_voter_id, proofing_case_id, verify_identity_workflow_id
from domain.registration import CONTACT
from integrations.identity.sumsub.webhook import ALGORITHM_HEADER, DIGEST_HEADER, payload_digest
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import HISTORY, history
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.registrations import IDENTITY_QUEUE

OPEN = 10_000
WEBHOOKS = 500  # a second
_SECONDS = 15
_AT_ONCE = 50
_CONNECTIONS = 400
_LATE_S = 20.0
_SAMPLE = 200  # cases whose histories are read
_OPENED_WITHIN_S = 3600.0
_TOLD_WITHIN_S = 1200.0
_LOOKED_WITHIN_S = 600.0
_LOOK_EVERY_S = 2.0
_LATE_MAX = timedelta(seconds=5)  # of a timer
_TAKEN = 202
_WORKER = "workers-identity"

# Noted once, they are not among those whose process a sweep begins
_REGISTERED = """
INSERT INTO identity.registration (registration_id, voter_id, region, revision, expires_at)
SELECT registration_id, voter_id, 'DE', 1, $3 FROM unnest($1::text[], $2::text[]) AS begun (registration_id, voter_id)
"""
_OPENED = "SELECT count(*) FROM identity.registration WHERE registration_id = ANY ($1) AND stage <> 'contact_proof'"
_KEPT = "SELECT count(*) FROM identity.webhook WHERE case_id = ANY ($1)"
_TOLD = "SELECT count(*) FROM identity.webhook WHERE case_id = ANY ($1) AND handled_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class _Case:
    registration_id: str
    voter_id: str

    @property
    def case_id(self) -> str:
        return proofing_case_id(self.registration_id, 1)

    @property
    def workflow_id(self) -> str:
        return verify_identity_workflow_id(CELL, self.registration_id, 1)


async def measure(run: Run) -> list[Line]:
    """Open the cases, stop the worker, send the webhooks, start the worker, and read what became of each."""
    ground = run.ground
    cases = [_Case(new_registration_id(CELL), new_voter_id(CELL)) for _ in range(OPEN)]
    client = await _client(ground)
    async with vendors(ground) as there:
        switches = {"dailyApplicants": 2 * OPEN}
        (await there.control.put("/sumsub/_control/switches", json=switches)).raise_for_status()
        async with services(ground, (_WORKER,), there.variables) as supervisor:
            before = memory_bytes(supervisor.pids[_WORKER])
        begun = await _begin(ground, client, cases)
        async with services(ground, (_WORKER,), there.variables) as supervisor:
            names = [case.registration_id for case in cases]
            took = await _until(_counted(ground, _OPENED, names), len(cases), _OPENED_WITHIN_S)
            waiting = memory_bytes(supervisor.pids[_WORKER]) - before
        async with services(ground, ("api-webhooks",), there.variables) as supervisor:
            answers = await _tell(ground, supervisor, there, cases[: WEBHOOKS * _SECONDS])
        told = [case.case_id for case in cases[: WEBHOOKS * _SECONDS]]
        statuses = Counter(each.status for each in answers)
        kept = int(await ground.owner.fetchval(_KEPT, told))
        checked = check_equal("webhooks", due=len(told), sent=len(answers), taken=statuses[_TAKEN], kept=kept)
        async with services(ground, (_WORKER,), there.variables) as supervisor:
            drained = await _until(_counted(ground, _TOLD, told), len(told), _TOLD_WITHIN_S)
            timers = await _timers(client, cases[:: OPEN // _SAMPLE])
            after = memory_bytes(supervisor.pids[_WORKER]) - before
    waits = sorted(1000 * (each.answered - each.due) for each in answers)
    opened = f"{OPEN:,} cases begun in {begun:.0f} s, opened in {took:.0f} s; {timers}"
    stored = f"{checked}; all told {drained:.0f} s after the worker was there; p50 {percentile(waits, 0.5):.1f} ms"
    return [
        line(f"memory of {OPEN:,} open cases", waiting / 1e6, "MB", Goal(at_most=100), opened),
        line("the same after a restart", after / 1e6, "MB", Goal(at_most=100), opened),
        line("webhooks kept while workers are away", kept / _SECONDS, "webhooks/s", Goal(at_least=WEBHOOKS), stored),
        line("a webhook's answer, p99", percentile(waits, 0.99), "ms", Goal(at_most=100), stored),
    ]


async def _client(ground: Ground) -> Client:
    assert ground.settings.keys_folder is not None
    codec = EncryptionCodec(FileKms(ground.settings.keys_folder, frozenset({HISTORY})), history(CELL))
    await codec.refresh()
    return await connect(ground.settings.cells[CELL].temporal, codec)


async def _begin(ground: Ground, client: Client, cases: list[_Case]) -> float:
    """Begin every case, which nobody serves yet; return after how many seconds all are durable."""
    began = time.monotonic()
    columns = [case.registration_id for case in cases], [case.voter_id for case in cases]
    await ground.owner.execute(_REGISTERED, *columns, datetime.now(UTC) + CONTACT.expires_after)
    waiting = iter(cases)

    async def begin_some() -> None:
        for case in waiting:  # shared: each takes the next one
            await client.start_workflow(
                "VerifyIdentity", _input(ground, case), id=case.workflow_id, task_queue=IDENTITY_QUEUE
            )

    await asyncio.gather(*(begin_some() for _ in range(_AT_ONCE)))
    return time.monotonic() - began


def _input(ground: Ground, case: _Case) -> VerifyIdentityInput:
    return VerifyIdentityInput(
        registration_id=case.registration_id,
        voter_id=case.voter_id,
        cell=CELL,
        cells=tuple(ground.settings.cells),
        rules=RegistrationRules(version=1, minimum_age=16, provider="sumsub"),
        case_no=1,
        revision=1,
        local_first=True,
    )


async def _tell(ground: Ground, supervisor: Supervisor, there: Vendors, cases: list[_Case]) -> list[Entry]:
    """Send an event of each case, from a process of its own; return what became of each."""
    secret = there.variables["COMITIA_SUMSUB__WEBHOOK_SECRET"].encode()
    requests, journal = ground.folder / "webhooks", ground.folder / "webhooks-answered"
    write_requests(requests, (_event(case, secret) for case in cases))
    spec = LoadSpec(
        ports=[urlsplit(supervisor.url("webhooks")).port or 0],
        requests=str(requests),
        connections=_CONNECTIONS,
        duration_s=len(cases) / WEBHOOKS + _LATE_S,  # it ends with its requests, which are due before
        drain_s=_LATE_S,
        rate=WEBHOOKS,
        good=f"{_TAKEN}/",
        journal=str(journal),
    )
    try:
        await run_load(spec)
        return read_journal(journal)
    finally:
        for path in (requests, journal):
            path.unlink(missing_ok=True)


def _event(case: _Case, secret: bytes) -> bytes:
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    event = {
        "type": "applicantPending",
        "applicantId": case.registration_id[-24:],
        "externalUserId": case.case_id,
        "createdAtMs": at,
    }
    body = json.dumps(event).encode()
    lines = (
        "POST /v1/webhooks/sumsub HTTP/1.1",
        "host: webhooks.example",
        f"{ALGORITHM_HEADER}: HMAC_SHA256_HEX",
        f"{DIGEST_HEADER}: {payload_digest(secret, 'HMAC_SHA256_HEX', body)}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _timers(client: Client, cases: list[_Case]) -> str:
    """Check that every timer went off when it was due, that the next one is set, and that no task failed.

    Each case is waited for until a timer of its has gone off and somebody has looked again.
    """
    give_up_at = time.monotonic() + _LOOKED_WITHIN_S
    latest, fired = timedelta(0), 0
    for case in cases:
        while not (found := await _read_timers(client, case)).fired or not found.waiting:
            if time.monotonic() > give_up_at:
                raise CheckFailedError(f"{case.workflow_id} was not looked at again in {_LOOKED_WITHIN_S:.0f} s")
            await asyncio.sleep(_LOOK_EVERY_S)
        latest, fired = max(latest, found.latest), fired + found.fired
    late = f"{fired} timers at most {latest.total_seconds():.2f} s late"
    return f"{len(cases)} histories: no task failed, {late}, the next one set"


@dataclass(frozen=True, slots=True)
class _Timers:
    """Timers of one history: how many went off, how late the latest, and how many are set."""

    fired: int
    latest: timedelta
    waiting: int


async def _read_timers(client: Client, case: _Case) -> _Timers:
    due: dict[int, datetime] = {}
    latest, fired = timedelta(0), 0
    async for event in client.get_workflow_handle(case.workflow_id).fetch_history_events():
        at = event.event_time.ToDatetime(tzinfo=UTC)
        if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED:
            timer = event.timer_started_event_attributes
            due[event.event_id] = at + timer.start_to_fire_timeout.ToTimedelta()
        elif event.event_type == EventType.EVENT_TYPE_TIMER_FIRED:
            wanted = due.pop(event.timer_fired_event_attributes.started_event_id)
            if not timedelta(0) <= at - wanted + timedelta(milliseconds=1) <= _LATE_MAX:
                raise CheckFailedError(f"a timer that was due at {wanted} went off at {at}")
            latest, fired = max(latest, at - wanted), fired + 1
        elif event.event_type == EventType.EVENT_TYPE_TIMER_CANCELED:
            due.pop(event.timer_canceled_event_attributes.started_event_id)
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            raise CheckFailedError(f"a task of {case.workflow_id} failed")
    return _Timers(fired, latest, len(due))


def _counted(ground: Ground, query: str, names: list[str]) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        return int(await ground.owner.fetchval(query, names))

    return count


async def _until(count: Callable[[], Awaitable[int]], wanted: int, within_s: float) -> float:
    """Return after how many seconds a count was reached. Raises CheckFailedError where it was not."""
    began = time.monotonic()
    while (found := await count()) < wanted:
        if time.monotonic() - began > within_s:
            raise CheckFailedError(f"{found:,} of {wanted:,} after {within_s:.0f} s")
        await asyncio.sleep(_LOOK_EVERY_S)
    return time.monotonic() - began
