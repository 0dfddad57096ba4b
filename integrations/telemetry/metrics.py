"""The metrics, one small class per area. Labels are bound once, values have units in their names.

No label holds a survey, a voter, a device or an address: the number of series is bounded by code and settings.
"""

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from domain.errors import CATALOGUE, ErrorCode
from domain.limits import Policy
from domain.ports import RiskDecision
from domain.priorities import Work
from domain.vote_risk import VoteReason

LATENCY_BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
DECISION_BUCKETS_S: Final = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
STREAM_BUCKETS_S: Final = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
_SERVER_FAULT: Final = 500
_WANTED: Final = frozenset({ErrorCode.SURVEY_PAUSED})  # by staff: nothing that anybody is to be called for


class VoteMetrics:
    """Votes as their callers see them, and the gateway behind them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter("vote_requests", "Votes asked to be cast.", registry=registry)
        errors = Counter("vote_errors", "Votes not answered for a fault of ours, by code.", ["code"], registry=registry)
        refusals = Counter(
            "vote_refusals", "Votes refused for a reason of the caller's, by code.", ["code"], registry=registry
        )
        self._by_code = {
            code: (errors if spec.status >= _SERVER_FAULT and code not in _WANTED else refusals).labels(str(code))
            for code, spec in CATALOGUE.items()
        }
        self.accept_seconds = Histogram(
            "vote_accept_seconds",
            "From the request to the batch being durable.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.confirm_seconds = Histogram(
            "vote_confirm_seconds",
            "From the request to the vote being recorded.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.batch_votes = Histogram(
            "vote_batch_votes", "Votes in a batch when it is started.", buckets=BATCH_BUCKETS, registry=registry
        )
        self.batches_in_flight = Gauge(
            "vote_batches_in_flight", "Batches started and not yet recorded.", ["cell"], registry=registry
        )
        self._queue_votes = Gauge("vote_queue_votes", "Votes waiting in the gateway.", ["cell"], registry=registry)
        self._queue_bytes = Gauge("vote_queue_bytes", "Bytes waiting in the gateway.", ["cell"], registry=registry)
        self._queue_age = Gauge(
            "vote_queue_oldest_seconds", "How long the oldest vote has waited for a batch.", ["cell"], registry=registry
        )
        self._intake_votes = Gauge(
            "vote_intake_votes", "Votes taken and not yet answered.", ["cell"], registry=registry
        )
        self._intake_limit = Gauge(
            "vote_intake_limit", "Votes that may be unanswered before more are refused.", ["cell"], registry=registry
        )
        self._recorded = Counter(
            "votes_recorded", "Votes in recorded batches, by outcome.", ["cell", "outcome"], registry=registry
        )

    def requested(self) -> None:
        """Count a request to vote."""
        self._requests.inc()

    def not_cast(self, code: ErrorCode) -> None:
        """Count a vote that was answered with a code: a fault of ours as an error, anything else as a refusal."""
        self._by_code[code].inc()

    def turned_away(self, work: Work, count: int) -> None:
        """Count requests that were refused for load before anybody looked at them, where they were votes."""
        if work is Work.VOTE:
            self._requests.inc(count)
            self._by_code[ErrorCode.OVERLOADED].inc(count)

    def recorded(self, cell: str, outcome: str, votes: int) -> None:
        """Count the votes of a recorded batch with one outcome."""
        if votes:
            self._recorded.labels(cell, outcome).inc(votes)

    def watch_queue(
        self,
        cell: str,
        votes: Callable[[], float],
        queued_bytes: Callable[[], float],
        oldest_seconds: Callable[[], float],
    ) -> None:
        """Read the gateway's queue of a cell whenever metrics are read."""
        self._queue_votes.labels(cell).set_function(votes)
        self._queue_bytes.labels(cell).set_function(queued_bytes)
        self._queue_age.labels(cell).set_function(oldest_seconds)

    def watch_intake(self, cell: str, votes: Callable[[], float], limit: Callable[[], float]) -> None:
        """Read a cell's intake whenever metrics are read."""
        self._intake_votes.labels(cell).set_function(votes)
        self._intake_limit.labels(cell).set_function(limit)


class DeskQueueMetrics:
    """Applications for voting tokens that wait, by cell."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waiting = Gauge(
            "admission_waiting", "Applications for voting tokens that wait.", ["cell"], registry=registry
        )

    def watch(self, cell: str, waiting: Callable[[], float]) -> None:
        """Read a desk's queue whenever metrics are read."""
        self._waiting.labels(cell).set_function(waiting)


class LoginMetrics:
    """Logins that this process works on, those that wait for a place, and how long decisions take."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.decision_seconds = Histogram(
            "login_decision_seconds",
            "From a login whose proof was good to the decision on it, recorded.",
            buckets=DECISION_BUCKETS_S,
            registry=registry,
        )
        self._working = Gauge("logins_in_work", "Logins being worked on.", registry=registry)
        self._waiting = Gauge("logins_waiting", "Logins that wait for a place.", registry=registry)

    def watch(self, working: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Read the room whenever metrics are read."""
        self._working.set_function(working)
        self._waiting.set_function(waiting)


class RiskMetrics:
    """Risk decisions; `fraud_denied_total` is what the alert on a spike reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        decisions = Counter("risk_decisions", "Risk decisions.", ["decision"], registry=registry)
        self._decisions = {decision: decisions.labels(str(decision)) for decision in RiskDecision}
        self._denied = Counter("fraud_denied", "Requests denied for risk.", registry=registry)
        reasons = Counter(
            "risk_reasons", "Why admissions were not allowed; some have several.", ["reason"], registry=registry
        )
        self._reasons = {reason.value: reasons.labels(reason.value) for reason in VoteReason}
        self.score_permille = Histogram(
            "risk_score_permille",
            "Risk scores, 0 to 1000.",
            buckets=(50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000),
            registry=registry,
        )
        self.decision_seconds = Histogram(
            "risk_decision_seconds", "How long a decision took.", buckets=LATENCY_BUCKETS_S, registry=registry
        )
        self.unavailable = Counter(
            "risk_unavailable", "Decisions replaced by CHALLENGE because the rules did not answer.", registry=registry
        )

    def decided(self, decision: RiskDecision, seconds: float, score_permille: int | None = None) -> None:
        """Count a decision."""
        self._decisions[decision].inc()
        self.decision_seconds.observe(seconds)
        if score_permille is not None:
            self.score_permille.observe(score_permille)
        if decision is RiskDecision.DENY:
            self._denied.inc()

    def stopped(self, reasons: Iterable[str]) -> None:
        """Count why an admission was not allowed; flags of devices are in the log and not here."""
        for reason in reasons:
            if (counted := self._reasons.get(reason)) is not None:
                counted.inc()


class LimitMetrics:
    """Rate limits of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "limit_refusals", "Requests over a limit, by policy and subject.", ["policy", "subject"], registry=registry
        )
        self._alone = Gauge(
            "limit_fallback_active", "1 while this process limits alone: Redis is away.", ["cell"], registry=registry
        )
        self._failures = Counter(
            "limit_settlement_failures", "Times that Redis could not be told.", ["cell"], registry=registry
        )
        self._lag = Histogram(
            "limit_settlement_lag_seconds",
            "From the first request that was told together to Redis having all of them.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._kept = Gauge("limit_buckets", "Buckets in memory.", ["cell"], registry=registry)
        self._owed = Gauge("limit_buckets_owed", "Buckets that wait to be told to Redis.", ["cell"], registry=registry)

    def refused(self, policy: Policy) -> None:
        """Count a refusal."""
        self._refused.labels(policy.name, str(policy.subject)).inc()

    def told(self, lag_seconds: float) -> None:
        """Redis knows what was taken."""
        self._lag.observe(lag_seconds)

    def failed(self, cell: str) -> None:
        """Redis could not be told: this process limits alone."""
        self._failures.labels(cell).inc()
        self._alone.labels(cell).set(1)

    def restored(self, cell: str) -> None:
        """Redis is back."""
        self._alone.labels(cell).set(0)

    def watch(self, cell: str, kept: Callable[[], float], owed: Callable[[], float]) -> None:
        """Read the buckets of a cell whenever metrics are read."""
        self._alone.labels(cell).set(0)
        self._kept.labels(cell).set_function(kept)
        self._owed.labels(cell).set_function(owed)


class StreamMetrics:
    """Live result streams of one process."""

    def __init__(self, registry: CollectorRegistry, region: str) -> None:
        active = Gauge("stream_connections_active", "Open streams.", ["region"], registry=registry)
        self.active = active.labels(region)
        self.messages_in = Counter("stream_messages_in", "Snapshots received from Redis.", registry=registry)
        self.messages_out = Counter("stream_messages_out", "Snapshots written to streams.", registry=registry)
        self.coalesced = Counter(
            "stream_messages_coalesced", "Snapshots replaced by a newer one before a slow reader.", registry=registry
        )
        self.dropped = Counter("stream_connections_dropped", "Streams closed on a stuck reader.", registry=registry)
        self.reconnects = Counter("stream_reconnects", "Streams opened with Last-Event-ID.", registry=registry)
        self.connection_seconds = Histogram(
            "stream_connection_seconds", "How long a stream was open.", buckets=STREAM_BUCKETS_S, registry=registry
        )

    def opened(self, *, resumed: bool) -> None:
        """Count a new stream."""
        self.active.inc()
        if resumed:
            self.reconnects.inc()

    def closed(self, seconds: float) -> None:
        """Count the end of a stream."""
        self.active.dec()
        self.connection_seconds.observe(seconds)


class TallyMetrics:
    """One tally consumer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lag = Gauge("tally_lag_messages", "Messages behind the end of the topic.", ["cell"], registry=registry)
        self._watermark_age = Gauge(
            "tally_watermark_age_seconds", "How old the newest watermark is.", ["cell"], registry=registry
        )
        self._batches = Counter("tally_batches_folded", "Batch summaries folded.", ["cell"], registry=registry)
        self._votes = Counter("tally_votes_folded", "Votes folded.", ["cell"], registry=registry)
        self._repeats = Counter("tally_batches_repeated", "Summaries seen before.", ["cell"], registry=registry)
        self._rebuilds = Counter(
            "tally_rebuilds", "Rebuilds from the ledger, by reason.", ["cell", "reason"], registry=registry
        )
        self.rebuild_seconds = Histogram(
            "tally_rebuild_seconds", "How long a rebuild took.", buckets=STREAM_BUCKETS_S, registry=registry
        )

    def folded(self, cell: str, batches: int, votes: int, repeats: int = 0) -> None:
        """Count what one script call folded."""
        self._batches.labels(cell).inc(batches)
        self._votes.labels(cell).inc(votes)
        if repeats:
            self._repeats.labels(cell).inc(repeats)

    def lagging(self, cell: str, messages: int) -> None:
        """Set how far behind the consumer is."""
        self._lag.labels(cell).set(messages)

    def rebuilt(self, cell: str, reason: str, seconds: float) -> None:
        """Count a rebuild; `reason` is one of a fixed few."""
        self._rebuilds.labels(cell, reason).inc()
        self.rebuild_seconds.observe(seconds)

    def watch_watermark(self, cell: str, age_seconds: Callable[[], float]) -> None:
        """Read the watermark's age whenever metrics are read."""
        self._watermark_age.labels(cell).set_function(age_seconds)


class DatabaseMetrics:
    """Statements."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._query = Histogram(
            "db_query_seconds",
            "How long a statement or transaction took.",
            ["database", "query"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )

    def query(self, database: str, name: str) -> Histogram:
        """Return the bound histogram of a named statement; names are constants of the code."""
        return self._query.labels(database, name)


class AuthMetrics:
    """Tokens issued and refused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._issued = Counter("auth_tokens_issued", "Tokens issued, by kind.", ["kind"], registry=registry)
        self._accepted = Counter("auth_tokens_accepted", "Tokens accepted, by kind.", ["kind"], registry=registry)
        self._refused = Counter("auth_failures", "Tokens or proofs refused, by code.", ["code"], registry=registry)
        self._refused_by_code = {
            code: self._refused.labels(str(code)) for code in ErrorCode if CATALOGUE[code].status in {401, 403, 421}
        }
        self.validate_seconds = Histogram(
            "auth_validate_seconds",
            "How long a token check took.",
            buckets=(0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02, 0.1),
            registry=registry,
        )

    def issued(self, kind: str) -> Counter:
        """Return the bound counter of tokens issued of a kind (`access`, `voting`)."""
        return self._issued.labels(kind)

    def accepted(self, kind: str) -> Counter:
        """Return the bound counter of tokens accepted of a kind."""
        return self._accepted.labels(kind)

    def refused(self, code: ErrorCode) -> None:
        """Count a refusal."""
        (self._refused_by_code.get(code) or self._refused.labels(str(code))).inc()
