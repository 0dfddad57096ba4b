"""Replays in PostgreSQL: asked for once, each step kept once, and nothing once it has ended."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from domain.audit import AuditEntry, AuditKind
from domain.contracts.replays import ReplayInput, ReplayStep
from domain.contracts.work import WorkStage
from domain.errors import DomainError, ErrorCode
from domain.ids import derived_id
from domain.replay import ReplayVerdict, Verdict
from integrations.postgres.pool import open_pool
from integrations.postgres.replays import KEPT_FOR, PostgresReplays
from integrations.postgres.roles import IDENTITY
from tests.conftest import OwnerPool, SettingsFor

SINCE = datetime(2026, 5, 7, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=1)
KINDS = [Verdict.SAME, Verdict.DIFFERENT, Verdict.SAME, Verdict.CANNOT]
ANN, BOB = "staff:u_eu_ann", "staff:u_eu_bob"


@pytest_asyncio.fixture
async def pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    settings = settings_for(IDENTITY)
    made = await open_pool(settings.cells["eu"].database, settings, IDENTITY, size=4)
    yield made
    await made.close()


def wanted(**fields: str) -> ReplayInput:
    replay_id = derived_id("w_eu", secrets.token_hex(8))
    return ReplayInput(replay_id=replay_id, cell="eu", namespace="eu", since=SINCE, until=UNTIL, **fields)


def told(request: ReplayInput, actor: str = ANN) -> AuditEntry:
    facts = {"workflow": "", "run": "", "type": "", "from": "", "to": "", "code": "this", "source": "server"}
    return AuditEntry(AuditKind.EXECUTIONS_REPLAYED, actor, request.replay_id, outcome="asked", facts=facts)


def step(request: ReplayInput, number: int = 0) -> ReplayStep:
    return ReplayStep(request=request, number=number, since=SINCE)


def verdicts(number: int = 0) -> list[ReplayVerdict]:
    return [ReplayVerdict(f"assess-login/eu/{number}-{n}", "run", "AssessLogin", kind) for n, kind in enumerate(KINDS)]


async def code_of(asking: object) -> ErrorCode:
    with pytest.raises(DomainError) as refused:
        await asking  # type: ignore[misc]
    return refused.value.code


async def test_a_replay_is_asked_for_once_by_one_person(pool: asyncpg.Pool, owner_pool: OwnerPool) -> None:
    replays, request = PostgresReplays(pool), wanted()
    states = await asyncio.gather(*(replays.ask(request, told(request)) for _ in range(5)))
    assert {(state.stage, state.asked_by, state.judged_until) for state in states} == {(WorkStage.RUNNING, ANN, SINCE)}
    assert states[0] == await replays.find(request.replay_id)
    written = "SELECT count(*) FROM audit.entry WHERE body->>'subject' = $1"
    assert await (await owner_pool("eu")).fetchval(written, request.replay_id) == 1
    other = request.model_copy(update={"workflow_type": "AssessLogin"})
    assert await code_of(replays.ask(other, told(other))) == ErrorCode.IDEMPOTENCY_KEY_USED
    assert await code_of(replays.ask(request, told(request, BOB))) == ErrorCode.IDEMPOTENCY_KEY_USED


async def test_the_verdicts_of_a_step_are_kept_once_with_their_counts(pool: asyncpg.Pool) -> None:
    replays, request = PostgresReplays(pool), wanted()
    await replays.ask(request, told(request))
    half = SINCE + timedelta(hours=12)
    for number, until in enumerate((half, UNTIL)):
        tries = (replays.record(step(request, number), until, verdicts(number)) for _ in range(4))
        states = await asyncio.gather(*tries)
        assert {(state.steps, state.judged_until) for state in states} == {(number + 1, until)}
    state = states[0]
    assert (state.same, state.different, state.cannot) == (4, 2, 2)
    kept = await replays.verdicts(request.replay_id, 0, 100)
    assert [each.number for each in kept] == list(range(1, 9))
    assert [each.verdict for each in kept] == [*verdicts(0), *verdicts(1)]
    assert [each.number for each in await replays.verdicts(request.replay_id, 3, 2)] == [4, 5]
    different = await replays.verdicts(request.replay_id, 0, 100, Verdict.DIFFERENT)
    assert [each.number for each in different] == [2, 6]


async def test_nothing_is_kept_of_a_replay_that_has_ended(pool: asyncpg.Pool) -> None:
    replays, request = PostgresReplays(pool), wanted()
    await replays.ask(request, told(request))
    ended = await replays.end(request.replay_id, WorkStage.CANCELLED)
    assert (ended.stage, ended.ended_at is None) == (WorkStage.CANCELLED, False)
    assert await replays.end(request.replay_id, WorkStage.FINISHED) == ended
    assert await replays.record(step(request), UNTIL, verdicts()) == ended
    assert await replays.verdicts(request.replay_id, 0, 100) == []
    nobody = wanted()
    assert await replays.find(nobody.replay_id) is None
    assert await code_of(replays.record(step(nobody), UNTIL, verdicts())) == ErrorCode.NOT_FOUND
    assert await code_of(replays.end(nobody.replay_id, WorkStage.FINISHED)) == ErrorCode.NOT_FOUND


async def test_they_are_listed_newest_first_and_forgotten_after_a_while(
    pool: asyncpg.Pool, owner_pool: OwnerPool
) -> None:
    replays, asked = PostgresReplays(pool), [wanted() for _ in range(5)]
    for request in asked:
        await replays.ask(request, told(request))
    found: list[str] = []
    place = None
    while len(found) < 5:
        page = await replays.newest(place, 2)
        found += [state.request.replay_id for state in page]
        place = page[-1].asked_at, found[-1]
    assert found[:5] == [request.replay_id for request in reversed(asked)]
    old, young, running = asked[:3]
    await replays.record(step(old), UNTIL, verdicts())
    for request in (old, young):
        await replays.end(request.replay_id, WorkStage.FINISHED)
    owner = await owner_pool("eu")
    await owner.execute(
        "UPDATE identity.replay SET ended_at = ended_at - $2::interval WHERE replay_id = $1",
        old.replay_id,
        KEPT_FOR + timedelta(minutes=1),
    )
    assert await replays.forget_older() == 1
    assert [await replays.find(each.replay_id) is None for each in (old, young, running)] == [True, False, False]
    left = "SELECT count(*) FROM identity.replay_verdict WHERE replay_id = $1"
    assert await owner.fetchval(left, old.replay_id) == 0
