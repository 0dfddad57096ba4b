import json
import logging
import warnings
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from temporalio import activity
from temporalio.testing import ActivityEnvironment

from domain.errors import DomainError, ErrorCode
from integrations.telemetry.logs import configure_logs
from integrations.telemetry.redaction import REDACTED, names_secret, redact
from integrations.telemetry.tracing import request_context
from tests.integrations.telemetry.test_tracing import make

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ2X2V1In0.c2lnbmF0dXJl"


@pytest.fixture
def lines() -> Iterator[StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = StringIO()
    configure_logs(service="votes", environment="test", region="eu-1", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], root.level = before
    logging.captureWarnings(capture=False)


def read(stream: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_shape_of_a_line(lines: StringIO) -> None:
    tracing, _ = make(0.0)
    trace = tracing.begin_request(None, 0.0)
    with request_context(trace), structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("x").info("vote_recorded", election_id="s_1", voter_id="p_1", duration_ms=4.5)
    (line,) = read(lines)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "INFO",
        "service": "votes",
        "environment": "test",
        "region": "eu-1",
        "message": "vote_recorded",
        "trace_id": trace.trace_id,
        "span_id": trace.span_id,
        "request_id": "r-1",
        "election_id": "s_1",
        "voter_id": "p_1",
        "duration_ms": 4.5,
        "logger": "x",
    }


@pytest.mark.parametrize(
    ("method", "level"),
    [("debug", None), ("info", "INFO"), ("warning", "WARN"), ("error", "ERROR"), ("critical", "ERROR")],
)
def test_levels_are_those_that_dashboards_know(lines: StringIO, method: str, level: str | None) -> None:
    getattr(structlog.get_logger("x"), method)("something_happened")
    getattr(logging.getLogger("lib"), method)("something_happened")
    assert [line["level"] for line in read(lines)] == ([level, level] if level else [])


def test_libraries_log_in_the_same_form(lines: StringIO) -> None:
    logging.getLogger("temporalio.worker").warning("Failed for %s", JWT, extra={"workflow": "SubmitVotes"})
    logging.getLogger("workflows").info("batch_recorded", extra={"votes_count": 3, "nullifier": b"1"})
    first, second = read(lines)
    assert (first["message"], first["text"]) == ("library_logged", f"Failed for {REDACTED}")
    assert first["workflow"] == "SubmitVotes"
    assert (second["message"], second["votes_count"], second["nullifier"]) == ("batch_recorded", 3, REDACTED)
    assert "text" not in second


async def test_activities_log_events_with_their_place(lines: StringIO) -> None:
    async def record() -> None:
        activity.logger.info("votes_recorded", extra={"votes_count": 2, "choice": "7"})

    await ActivityEnvironment().run(record)
    (line,) = read(lines)
    assert (line["message"], line["votes_count"], line["choice"]) == ("votes_recorded", 2, REDACTED)
    assert line["temporal_activity"]["workflow_type"]


def test_one_line_whatever_is_logged(lines: StringIO) -> None:
    structlog.get_logger("x").info("odd_value", value="a\nb\x00c", thing=object(), when={"deep": [b"12", {"token": 1}]})
    (line,) = read(lines)
    assert line["value"] == "a\nb\x00c"
    assert line["when"] == {"deep": ["<2 bytes>", {"token": REDACTED}]}


def test_exceptions_keep_places_and_lose_texts(lines: StringIO) -> None:
    try:
        try:
            raise KeyError("Key (nullifier)=(abc) exists")
        except KeyError as error:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "connection refused") from error
    except DomainError:
        structlog.get_logger("x").exception("batch_failed")
    (line,) = read(lines)
    outer, inner = line["exception"]
    assert (outer["type"], outer["code"], outer["detail"]) == (
        "DomainError",
        "ledger_unavailable",
        "connection refused",
    )
    assert inner["type"] == "KeyError"
    assert any("test_exceptions_keep_places" in frame for frame in inner["frames"])
    assert "abc" not in lines.getvalue()
    assert line["level"] == "ERROR"


def test_a_logger_follows_what_is_configured_after_its_first_line(lines: StringIO) -> None:
    log = structlog.get_logger("x")
    log.info("vote_recorded")
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as captured:
        log.info("vote_repeated")
    assert [entry["event"] for entry in captured] == ["vote_repeated"]
    assert len(read(lines)) == 1


def test_warnings_become_lines(lines: StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    (line,) = read(lines)
    assert line["logger"] == "py.warnings"


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "token", "access_token", "votingToken", "nullifier", "answers", "choice", "options",
        "password", "DPoP", "receipt_code", "Idempotency-Key", "api_key", "sealed_answers", "evidence", "email",
        "phone_number",
    ],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    assert names_secret(name)
    assert redact({"outer": [{name: "v"}]}) == {"outer": [{name: REDACTED}]}


@pytest.mark.parametrize(
    "name", ["election_id", "voter_id", "duration_ms", "payload_bytes", "key_id", "votes", "code", "tokens_count"]
)
def test_harmless_names(name: str) -> None:
    assert not names_secret(name)


@pytest.mark.parametrize(
    "text",
    [f"got {JWT} here", "Authorization: Bearer abc.def", "DPoP xyz", "postgresql://u:hunter2@h/db", "\\x" + "ab" * 32],
)
def test_secrets_inside_text(text: str) -> None:
    found = redact(text)
    assert REDACTED in found
    for secret in (JWT, "abc.def", "xyz", "hunter2", "ab" * 32):
        assert secret not in found


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.binary(), st.lists))
def test_anything_can_be_redacted(value: object) -> None:
    json.dumps(redact(value))
