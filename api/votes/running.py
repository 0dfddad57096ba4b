"""A batch that runs: who waits for it, what is known of it, and its answers, in groups."""

import asyncio
from collections.abc import Callable
from typing import Final

from opentelemetry.context import Context

from api.votes.queue import Verdict, WaitingVote
from domain.contracts.voting import SubmitVotesInput

_ANSWERS_AT_ONCE: Final = 64  # some three milliseconds


class RunningBatch:
    """A batch of one process from when it goes out until everybody has an answer and it is recorded."""

    __slots__ = (
        "_is_decided",
        "_on_answered",
        "answered",
        "durable",
        "durable_since",
        "ended",
        "input",
        "recorded",
        "trace",
        "waiting",
    )

    def __init__(
        self,
        batch: SubmitVotesInput,
        waiting: list[WaitingVote],
        recorded: asyncio.Future[bytes],
        on_answered: Callable[["RunningBatch"], None],
    ) -> None:
        self.input = batch
        self.waiting: list[WaitingVote | None] = [*waiting]  # by index; None: answered before the others
        self.trace = waiting[0].trace or Context()
        self.recorded = recorded
        self._on_answered = on_answered
        self._is_decided = False  # what everybody hears
        self.answered = False  # everybody has heard it
        self.ended = False  # it is recorded, or this process looks no further
        self.durable = False  # Temporal has it, or it is recorded
        self.durable_since = float("inf")

    def answer(self, verdict: Callable[[int], Verdict]) -> None:
        """Answer every caller once; a later call is a no-op.

        In groups, between which the loop looks at who else came: all answers of a large batch together take tens of
        milliseconds, and so long everybody who is to be refused would wait.
        """
        if self._is_decided:
            return
        self._is_decided = True
        waiting, self.waiting = self.waiting, []
        self._answer_from(0, waiting, verdict)

    def _answer_from(self, begin: int, waiting: list[WaitingVote | None], verdict: Callable[[int], Verdict]) -> None:
        end = min(begin + _ANSWERS_AT_ONCE, len(waiting))
        for index in range(begin, end):
            if (vote := waiting[index]) is not None:
                vote.answer(verdict(index))
        if end < len(waiting):
            asyncio.get_running_loop().call_soon(self._answer_from, end, waiting, verdict)
            return
        self.answered = True
        self._on_answered(self)

    def answer_those(self, before: float, verdict: Callable[[int], Verdict]) -> None:
        """Answer the callers whose time is over before an instant; the others go on waiting."""
        for index, vote in enumerate(self.waiting):
            if vote is not None and vote.deadline <= before:
                self.waiting[index] = None
                vote.answer(verdict(index))

    @property
    def next_deadline(self) -> float:
        """When the first of the waiting callers stops waiting."""
        return min((vote.deadline for vote in self.waiting if vote is not None), default=float("inf"))
