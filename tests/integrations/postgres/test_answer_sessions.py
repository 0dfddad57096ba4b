import secrets
from datetime import UTC, datetime, timedelta

import pytest

from domain.answer_sessions import Choice
from domain.errors import DomainError, ErrorCode
from integrations.postgres.answer_sessions import KEPT_AFTER_END, SESSIONS_MAX, AnswerSession, AnswerSessions
from tests.conftest import OwnerPool
from tests.voting_world import Booth, OpenBooth

CHOICES = (Choice("1", "1", ""),)


class Voter:
    """One voter's sessions in a survey."""

    def __init__(self, booth: Booth) -> None:
        self.sessions = AnswerSessions(booth.pool)
        self.nullifier = secrets.token_bytes(32)
        self.booth = booth

    async def create(self) -> AnswerSession:
        return await self.sessions.create(self.booth.survey.id, self.nullifier, CHOICES)

    async def freeze(self, session: AnswerSession) -> AnswerSession:
        rules = self.booth.known.box.rules
        return await self.sessions.freeze(session.session_id, self.booth.survey.id, self.nullifier, rules)

    async def change(self, session: AnswerSession) -> AnswerSession:
        return await self.sessions.change(session.session_id, self.booth.survey.id, self.nullifier, lambda same: same)

    async def kept(self, session: AnswerSession) -> bool:
        found = await self.sessions.look(session.session_id, self.booth.survey.id, self.nullifier)
        return found is not None


@pytest.fixture
def voter(booth: Booth) -> Voter:
    return Voter(booth)


async def is_frozen(voter: Voter, session: AnswerSession) -> bool:
    try:
        await voter.change(session)
    except DomainError as error:
        return error.code is ErrorCode.ANSWER_SESSION_FINISHED
    return False


async def test_whoever_froze_a_session_alone_can_thaw_it(voter: Voter) -> None:
    session = await voter.create()
    frozen = await voter.freeze(session)
    assert await is_frozen(voter, session)
    await voter.sessions.thaw(frozen)
    assert not await is_frozen(voter, session)
    await voter.sessions.thaw(frozen)
    assert await voter.change(session)


async def test_a_session_that_another_call_finishes_stays_frozen(voter: Voter) -> None:
    session = await voter.create()
    first, second = await voter.freeze(session), await voter.freeze(session)
    for refused in (first, second):
        await voter.sessions.thaw(refused)
        assert await is_frozen(voter, session)
    at = await voter.sessions.finish(session.session_id)
    assert (await voter.freeze(session)).finished_at == at


async def test_frozen_sessions_make_room_too_and_the_finished_one_stays(voter: Voter) -> None:
    finished = await voter.create()
    await voter.freeze(finished)
    await voter.sessions.finish(finished.session_id)
    frozen = [await voter.freeze(await voter.create()) for _ in range(2 * SESSIONS_MAX)]
    found = [await voter.kept(session) for session in frozen]
    assert found == [False] * (SESSIONS_MAX + 1) + [True] * (SESSIONS_MAX - 1)
    assert await voter.kept(finished)


async def test_a_session_that_made_room_while_it_was_recorded_is_finished_now(voter: Voter) -> None:
    session = await voter.create()
    await voter.freeze(session)
    await voter.sessions.remove(session.session_id)
    before = datetime.now(UTC)
    assert before <= await voter.sessions.finish(session.session_id) <= datetime.now(UTC)


async def test_sessions_are_forgotten_some_time_after_the_end(
    voter: Voter, booth_of: OpenBooth, owner_pool: OwnerPool
) -> None:
    over, just_over = Voter(await booth_of()), Voter(await booth_of())
    owner = await owner_pool("eu")
    created = {each: await each.create() for each in (voter, over, just_over)}
    for each, ago in ((over, KEPT_AFTER_END), (just_over, KEPT_AFTER_END - timedelta(minutes=1))):
        await owner.execute(
            "UPDATE voting.survey SET finish_at = now() - $2::interval WHERE survey_id = $1", each.booth.survey.id, ago
        )
    while await voter.sessions.purge():
        pass
    assert [await each.kept(session) for each, session in created.items()] == [True, False, True]
    assert await voter.sessions.purge() == 0
