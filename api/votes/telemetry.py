"""What casting shows of itself: counters of the seed's names, and a trace that costs little unless it is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from opentelemetry.context import Context

from api.http.lean import LeanRequest
from domain.errors import DomainError, ErrorCode
from integrations.telemetry.metrics import VoteMetrics
from integrations.telemetry.request_trace import RequestTrace
from integrations.telemetry.span_names import SpanName
from integrations.telemetry.tracing import Tracing


class CastTrace:
    """Timestamps of one cast vote."""

    __slots__ = ("_authenticated_at", "_metrics", "_request", "_submitted_at", "_survey_id", "_trace")

    def __init__(self, request: LeanRequest, trace: RequestTrace, metrics: VoteMetrics) -> None:
        self._request = request
        self._trace = trace
        self._metrics = metrics
        self._authenticated_at = 0.0
        self._submitted_at = 0.0
        self._survey_id = ""

    def authenticated(self, survey_id: str) -> None:
        """The token is genuine."""
        self._authenticated_at = perf_counter()
        self._survey_id = survey_id

    def submitted(self) -> None:
        """The sealed vote goes to the gateway."""
        self._submitted_at = perf_counter()

    def kept(self) -> Context | None:
        """The context that makes the batch a part of this trace, where it is already known to be kept."""
        return self._trace.context() if self._trace.sampled else None

    def ended(self, status: int, code: ErrorCode | None = None) -> None:
        """The caller has the answer."""
        now = perf_counter()
        if code is not None:
            self._metrics.not_cast(code)
        elif status == 201:  # noqa: PLR2004 - Created: recorded
            self._metrics.confirm_seconds.observe(now - self._trace.started_at)
        else:
            self._metrics.accept_seconds.observe(now - self._trace.started_at)
        trace = self._trace
        if self._authenticated_at:
            trace.step(SpanName.VALIDATE_TOKEN, trace.started_at, self._authenticated_at)
        if self._submitted_at:
            trace.step(SpanName.PERSIST_VOTE, self._submitted_at, now)
        about = {"http.route": "cast_vote", "election_id": self._survey_id, "request_id": self._request.request_id}
        trace.finish(status, ended_at=now, attributes=about)


class VoteTelemetry:
    """Begins traces and counts requests."""

    def __init__(self, metrics: VoteMetrics, tracing: Tracing) -> None:
        self._metrics = metrics
        self._tracing = tracing

    def begin(self, request: LeanRequest) -> CastTrace:
        """Count a request to vote and begin its trace."""
        self._metrics.requested()
        trace = self._tracing.begin_request(request.get(b"traceparent"), request.received_at)
        return CastTrace(request, trace, self._metrics)

    @contextmanager
    def finishing(self) -> Iterator["FinishedVote"]:
        """Count a request to cast the ballot of an answer session, and what comes of it."""
        self._metrics.requested()
        began, finished = perf_counter(), FinishedVote()
        try:
            yield finished
        except DomainError as error:
            self._metrics.not_cast(error.code)
            raise
        taken = self._metrics.confirm_seconds if finished.is_confirmed else self._metrics.accept_seconds
        taken.observe(perf_counter() - began)


@dataclass(slots=True)
class FinishedVote:
    """What came of a request that casts the ballot of a session."""

    is_confirmed: bool = False


class GatewayTelemetry:
    """The gateway's numbers in one cell."""

    def __init__(self, metrics: VoteMetrics, cell: str) -> None:
        self._metrics = metrics
        self._in_flight = metrics.batches_in_flight.labels(cell)

    def in_flight(self, batches: int) -> None:
        """Batches that run now."""
        self._in_flight.set(batches)

    def started(self, votes: int) -> None:
        """A batch of so many votes goes out."""
        self._metrics.batch_votes.observe(votes)
