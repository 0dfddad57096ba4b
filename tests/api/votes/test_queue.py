"""The queue of waiting votes: fair between surveys, and bounded in votes and bytes."""

from api.votes.gateway import BATCH_BYTES_MAX
from api.votes.queue import VoteQueue, WaitingVote
from tests.api.votes.test_gateway import vote


def waiting(survey: str, size: int = 100) -> WaitingVote:
    return WaitingVote(vote(survey, size), lambda _: None, 0.0)


def test_surveys_are_taken_in_turn() -> None:
    queue = VoteQueue(1000)
    for survey in ["s_hot"] * 100 + ["s_cold"] * 3:
        queue.put(waiting(survey))
    taken = [found.vote.survey_id for found in queue.take(8, BATCH_BYTES_MAX)[0]]
    assert taken.count("s_cold") == 3
    assert len(queue) == 95


def test_a_batch_is_bounded_in_bytes_and_takes_one_vote_at_least() -> None:
    queue = VoteQueue(1000)
    for _ in range(10):
        queue.put(waiting("s_one", size=4000))
    assert len(queue.take(10, 3 * waiting("s_one", size=4000).bytes)[0]) == 3
    assert len(queue.take(10, 1)[0]) == 1
    assert len(queue) == 6
    assert queue.bytes == 6 * waiting("s_one", size=4000).bytes
