import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from domain.errors import ErrorCode
from domain.ports import RiskDecision
from domain.priorities import Work
from domain.vote_risk import VoteReason
from integrations.settings import Environment, Settings
from integrations.telemetry.http_metrics import HttpMetrics
from integrations.telemetry.metrics import (
    AuthMetrics,
    DatabaseMetrics,
    RiskMetrics,
    StreamMetrics,
    TallyMetrics,
    VoteMetrics,
)
from integrations.telemetry.telemetry import Telemetry, make_telemetry


@pytest.fixture
def telemetry() -> Telemetry:
    return make_telemetry(Settings(environment=Environment.TEST, region="eu-1", build="abc"), "votes")


def samples(telemetry: Telemetry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(telemetry.exposition()[1].decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_votes(telemetry: Telemetry) -> None:
    metrics = VoteMetrics(telemetry.registry)
    metrics.requested()
    metrics.not_cast(ErrorCode.OVERLOADED)
    metrics.not_cast(ErrorCode.ALREADY_VOTED)
    metrics.not_cast(ErrorCode.SURVEY_PAUSED)
    metrics.turned_away(Work.VOTE, 7)
    metrics.turned_away(Work.READ, 100)
    metrics.accept_seconds.observe(0.01)
    metrics.confirm_seconds.observe(0.02)
    metrics.batch_votes.observe(240)
    metrics.recorded("eu", "recorded", 240)
    metrics.recorded("eu", "refused", 0)
    waiting = [1, 2]
    metrics.watch_queue("eu", lambda: len(waiting), lambda: 100, lambda: 0.5)
    found = samples(telemetry)
    assert found["vote_requests_total", ()] == 8
    assert found["vote_errors_total", (("code", "overloaded"),)] == 8
    assert found["vote_refusals_total", (("code", "already_voted"),)] == 1
    assert found["vote_refusals_total", (("code", "survey_paused"),)] == 1  # as staff wished
    for code in ("already_voted", "survey_paused"):
        assert ("vote_errors_total", (("code", code),)) not in found
    assert found["vote_confirm_seconds_count", ()] == 1
    assert found["votes_recorded_total", (("cell", "eu"), ("outcome", "recorded"))] == 240
    assert ("votes_recorded_total", (("cell", "eu"), ("outcome", "refused"))) not in found
    assert found["vote_queue_votes", (("cell", "eu"),)] == 2
    waiting.clear()
    assert samples(telemetry)["vote_queue_votes", (("cell", "eu"),)] == 0


def test_risk(telemetry: Telemetry) -> None:
    metrics = RiskMetrics(telemetry.registry)
    metrics.decided(RiskDecision.DENY, 0.003, 900)
    metrics.decided(RiskDecision.ALLOW, 0.001)
    metrics.stopped([VoteReason.DEVICE_REFUSED, "rooted"])
    found = samples(telemetry)
    assert found["fraud_denied_total", ()] == 1
    assert found["risk_decisions_total", (("decision", "ALLOW"),)] == 1
    assert found["risk_decisions_total", (("decision", "CHALLENGE"),)] == 0
    assert found["risk_decision_seconds_count", ()] == 2
    assert found["risk_score_permille_sum", ()] == 900
    assert found["risk_reasons_total", (("reason", "device_refused"),)] == 1
    assert found["risk_reasons_total", (("reason", "device_unseen"),)] == 0
    assert "rooted" not in str(found)


def test_streams(telemetry: Telemetry) -> None:
    metrics = StreamMetrics(telemetry.registry, telemetry.region)
    metrics.opened(resumed=True)
    metrics.opened(resumed=False)
    metrics.closed(61.0)
    found = samples(telemetry)
    assert found["stream_connections_active", (("region", "eu-1"),)] == 1
    assert found["stream_reconnects_total", ()] == 1
    assert found["stream_connection_seconds_sum", ()] == 61


def test_tally(telemetry: Telemetry) -> None:
    metrics = TallyMetrics(telemetry.registry)
    metrics.folded("eu", 2, 480, repeats=1)
    metrics.lagging("eu", 7)
    metrics.rebuilt("eu", "lost", 3.0)
    metrics.watch_watermark("eu", lambda: 0.5)
    found = samples(telemetry)
    cell = (("cell", "eu"),)
    assert found["tally_batches_folded_total", cell] == 2
    assert found["tally_votes_folded_total", cell] == 480
    assert found["tally_batches_repeated_total", cell] == 1
    assert found["tally_lag_messages", cell] == 7
    assert found["tally_watermark_age_seconds", cell] == 0.5
    assert found["tally_rebuilds_total", (("cell", "eu"), ("reason", "lost"))] == 1


def test_dependencies(telemetry: Telemetry) -> None:
    database, auth = DatabaseMetrics(telemetry.registry), AuthMetrics(telemetry.registry)
    database.query("ledger", "record").observe(0.01)
    auth.issued("voting").inc()
    auth.refused(ErrorCode.TOKEN_EXPIRED)
    auth.refused(ErrorCode.RATE_LIMITED)
    found = samples(telemetry)
    assert found["db_query_seconds_count", (("database", "ledger"), ("query", "record"))] == 1
    assert found["auth_tokens_issued_total", (("kind", "voting"),)] == 1
    assert found["auth_failures_total", (("code", "token_expired"),)] == 1
    assert found["auth_failures_total", (("code", "rate_limited"),)] == 1


def test_http_by_template_with_an_exemplar(telemetry: Telemetry) -> None:
    metrics = HttpMetrics(telemetry.registry)
    route = metrics.route("POST", "/v1/surveys/{id}/vote")
    route.answered(201, 0.01, "0af7651916cd43dd8448eb211c80319c")
    metrics.route("BREW", "unmatched").answered(405, 0.0)
    assert metrics.route("POST", "/v1/surveys/{id}/vote") is route
    labels = (("method", "POST"), ("route", "/v1/surveys/{id}/vote"), ("status", "201"))
    found = samples(telemetry)
    assert found["http_requests_total", labels] == 1
    assert found["http_requests_total", (("method", "OTHER"), ("route", "unmatched"), ("status", "405"))] == 1
    content_type, text = telemetry.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    exemplars = [
        sample.exemplar.labels
        for family in parse_openmetrics(text.decode())  # type: ignore[no-untyped-call]  # the library's own has none
        for sample in family.samples
        if sample.exemplar
    ]
    assert exemplars == [{"trace_id": "0af7651916cd43dd8448eb211c80319c"}]


def test_the_build_and_the_process_are_named(telemetry: Telemetry) -> None:
    found = samples(telemetry)
    assert found["comitia_build_info", (("build", "abc"), ("service", "votes"))] == 1
    assert found["process_resident_memory_bytes", ()] > 0


def test_no_registry_is_shared(telemetry: Telemetry) -> None:
    VoteMetrics(telemetry.registry)
    VoteMetrics(CollectorRegistry())
    with pytest.raises(ValueError, match="Duplicated"):
        VoteMetrics(telemetry.registry)
