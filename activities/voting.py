"""The two side effects of a batch: it is written down, and the tally is told."""

import random
from collections.abc import Callable
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.failures import to_application_error
from domain.contracts.voting import AnnounceVotesInput, RecordedVotes, RecordVotesInput, SubmitVotesInput
from domain.errors import DomainError
from domain.ports import SummaryPublisher, VoteLedger

_ANNOUNCE_WAIT_MAX_S = 3.0

RecordListener = Callable[[SubmitVotesInput, RecordedVotes], None]


class VotingActivities:
    """Writes votes; holds the clients so that a test can pass its own."""

    def __init__(
        self, ledger: VoteLedger, publisher: SummaryPublisher, on_recorded: RecordListener | None = None
    ) -> None:
        """`on_recorded` hears of every batch that this process recorded, right after its commit."""
        self._ledger = ledger
        self._publisher = publisher
        self._on_recorded = on_recorded

    @activity.defn(name="record_votes")
    async def record_votes(self, request: RecordVotesInput) -> RecordedVotes:
        """Record a batch of sealed votes exactly once, each new, repeated or refused.

        Safe to repeat: the same batch returns the first outcomes.

        Raises:
            ApplicationError: `ledger_unavailable` or `key_unavailable` (retried), `batch_digest_mismatch` (a fault).
        """
        try:
            recorded = await self._ledger.record(request.batch, request.accepted_at)
        except DomainError as error:
            raise to_application_error(error) from error
        if self._on_recorded is not None:
            self._on_recorded(request.batch, recorded)
        return recorded

    @activity.defn(name="announce_votes")
    async def announce_votes(self, request: AnnounceVotesInput) -> None:
        """Tell the tally what a recorded batch adds. Safe to repeat: it folds each batch once.

        Raises:
            ApplicationError: `broker_unavailable` (retried, spread over 3 s so that an outage ends without a rush).
        """
        try:
            await self._publisher.publish(request.summaries)
        except DomainError as error:
            failure = to_application_error(error)
            raise ApplicationError(
                failure.message,
                type=failure.type,
                non_retryable=failure.non_retryable,
                next_retry_delay=timedelta(seconds=random.uniform(0.5, _ANNOUNCE_WAIT_MAX_S)),  # noqa: S311 - spread only
            ) from error
