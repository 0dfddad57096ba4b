"""Votes that wait for a batch: bounded, and taken fairly by survey."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from opentelemetry.context import Context

from domain.contracts.voting import Outcome, SealedVote
from domain.errors import ErrorCode
from domain.submissions import Submission

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The ledger has this outcome."""

    submission: Submission
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Accepted:
    """Temporal has the vote durably; the ledger will."""

    submission: Submission


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Nothing is promised: `overloaded` before anything was durable, `outcome_unknown` where nobody can tell."""

    code: ErrorCode


Verdict = Confirmed | Accepted | NotTaken


class Caller(Protocol):
    """Whoever waits for an answer."""

    @property
    def disconnected(self) -> bool:
        """Whether nobody waits any more."""
        ...


class WaitingVote:
    """A vote and who waits for it."""

    __slots__ = ("_answer", "_caller", "_left", "bytes", "deadline", "since", "trace", "vote")

    def __init__(
        self,
        vote: SealedVote,
        answer: Callable[[Verdict], None],
        since: float,
        *,
        trace: Context | None = None,
        left: Callable[[str], None] | None = None,
        caller: Caller | None = None,
        deadline: float = float("inf"),
    ) -> None:
        """`since` and `deadline` are of `loop.time()`: when the request came, and until when its answer is wanted.

        `trace` is its context where its trace is kept; `left` hears the survey of a vote that was answered.
        """
        self.vote = vote
        self.deadline = deadline
        self._caller = caller
        self._left = left
        self.trace = trace
        self._answer = answer
        self.since = since
        self.bytes = encoded_bytes(vote)

    def is_wanted(self, now: float) -> bool:
        """Tell whether somebody still waits for the answer."""
        return now < self.deadline and (self._caller is None or not self._caller.disconnected)

    def answer(self, verdict: Verdict) -> None:
        """Tell the caller, once; one that cannot be told keeps no other from its answer."""
        if self._left is not None:
            self._left(self.vote.survey_id)
        try:
            self._answer(verdict)
        except Exception:
            log.exception("caller_not_answered")


def encoded_bytes(vote: SealedVote) -> int:
    """Return an upper bound on what a vote adds to a batch's encoded form: base64 of its bytes, and names."""
    binary = len(vote.nullifier) + len(vote.evidence) + len(vote.sealed_answers) + len(vote.key_mac)
    return binary * 4 // 3 + 2 * (len(vote.survey_id) + len(vote.region)) + 150


class VoteQueue:
    """A bounded queue of waiting votes that takes surveys in turn, so that a hot one cannot starve another."""

    def __init__(self, votes_max: int) -> None:
        self._max = votes_max
        self._surveys: OrderedDict[str, deque[WaitingVote]] = OrderedDict()
        self._votes = 0
        self.bytes = 0

    def __len__(self) -> int:
        return self._votes

    def put(self, waiting: WaitingVote) -> bool:
        """Add a vote, or return False where the queue is full."""
        if self._votes >= self._max:
            return False
        survey = self._surveys.get(waiting.vote.survey_id)
        if survey is None:
            survey = self._surveys[waiting.vote.survey_id] = deque()
        survey.append(waiting)
        self._votes += 1
        self.bytes += waiting.bytes
        return True

    def take(self, votes_max: int, bytes_max: int, now: float = 0.0) -> tuple[list[WaitingVote], list[WaitingVote]]:
        """Take up to `votes_max` votes of up to `bytes_max` encoded bytes, one of each survey in turn, oldest first.

        The second list are those that were come across and that nobody waits for at `now`: they are not worth a place.
        """
        taken: list[WaitingVote] = []
        given_up: list[WaitingVote] = []
        size = 0
        while self._surveys and len(taken) < votes_max:
            survey_id, survey = next(iter(self._surveys.items()))
            if not survey[0].is_wanted(now):
                given_up.append(survey.popleft())
            elif (size := size + survey[0].bytes) > bytes_max and taken:
                break
            else:
                taken.append(survey.popleft())
            if not survey:
                del self._surveys[survey_id]
            elif len(self._surveys) > 1:
                self._surveys.move_to_end(survey_id)
        self._took(taken)
        self._took(given_up)
        return taken, given_up

    def oldest_since(self) -> float | None:
        """Return since when the oldest vote waits; None where none does."""
        return min((survey[0].since for survey in self._surveys.values()), default=None)

    def expire(self, before: float) -> list[WaitingVote]:
        """Take out every vote that has waited since before an instant."""
        expired: list[WaitingVote] = []
        for survey_id in list(self._surveys):
            survey = self._surveys[survey_id]
            while survey and survey[0].since < before:
                expired.append(survey.popleft())
            if not survey:
                del self._surveys[survey_id]
        self._took(expired)
        return expired

    def _took(self, votes: list[WaitingVote]) -> None:
        self._votes -= len(votes)
        self.bytes -= sum(waiting.bytes for waiting in votes)
