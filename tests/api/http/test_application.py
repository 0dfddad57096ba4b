import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from pydantic import Field

from api.http.application import create_application, problem_responses
from api.http.models import ApiModel, QueryText, Timestamp
from domain.errors import CATALOGUE, DomainError, ErrorCode
from integrations.telemetry.request_trace import RequestTrace
from integrations.telemetry.telemetry import Telemetry
from integrations.telemetry.tracing import current_request, timed
from tests.api.http.wire import telemetry_for_tests

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Inner(ApiModel):
    option_ids: tuple[str, ...] = Field(strict=False)


class Given(ApiModel):
    survey_title: str
    max_options: int = 1
    opens_at: Timestamp | None = None
    questions: tuple[Inner, ...] = Field(default=(), strict=False)


@pytest.fixture
def telemetry() -> Telemetry:
    return telemetry_for_tests()


@pytest.fixture
def app(telemetry: Telemetry) -> FastAPI:
    app = create_application("surveys", telemetry, public_url="https://vote.example", body_limit_bytes=2000)

    @app.post("/v1/things/{thing_id}", responses=problem_responses(ErrorCode.ALREADY_VOTED, ErrorCode.SURVEY_CLOSED))
    async def put_thing(thing_id: str, given: Given) -> Given:
        with timed("db.query"):
            assert thing_id
        return given

    @app.get("/v1/things")
    async def find(limit: int = 10, name: QueryText = "") -> dict[str, str]:
        trace = current_request()
        return {"name": name, "limit": str(limit), "trace": trace.trace_id if trace else ""}

    @app.get("/v1/refuse/{code}")
    async def refuse(code: ErrorCode, after: int | None = None) -> None:
        raise DomainError(code, "because", retry_after_s=after)

    @app.get("/v1/fail")
    async def fail() -> None:
        raise RuntimeError("nullifier 0xabc")

    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        yield client


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    document: dict[str, Any] = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"urn:comitia:problem:{code}"
    assert document["requestId"] == response.headers["x-request-id"]
    assert response.headers["cache-control"] == "no-store"
    return document


async def test_bodies_are_camel_case(client: httpx.AsyncClient) -> None:
    given = {
        "surveyTitle": "Ä",
        "maxOptions": 2,
        "opensAt": "2026-05-01T10:00:00Z",
        "questions": [{"optionIds": ["1"]}],
    }
    response = await client.post("/v1/things/1", json=given)
    assert response.json() == given
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["strict-transport-security"]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ('{"surveyTitle": 5}', "#/surveyTitle", "string_type"),
        ('{"surveyTitle": "a", "maxOptions": "2"}', "#/maxOptions", "int_type"),
        ('{"surveyTitle": "a", "maxOptions": true}', "#/maxOptions", "int_type"),
        ('{"surveyTitle": "a", "secret7": 1}', "#/secret7", "extra_forbidden"),
        ('{"surveyTitle": "a", "a/b~c": 1}', "#/a~1b~0c", "extra_forbidden"),
        ('{"surveyTitle": "a", "opensAt": "2026-05-01T10:00:00"}', "#/opensAt", "timezone_aware"),
        ('{"surveyTitle": "a", "questions": [{"optionIds": ["1", 7]}]}', "#/questions/0/optionIds/1", "string_type"),
        ('{"surveyTitle": "secret7\\u0000"}', "#", "value_error"),
        ('{"surveyTitle": "secret7\\ud800"}', "#", "value_error"),
        ('{"surveyTitle": "a", "questions": [{"optionIds": ["secret7\\u0000"]}]}', "#/questions/0", "value_error"),
        ("{}", "#/surveyTitle", "missing"),
        ("[]", "#", "model_attributes_type"),
        ("{secret7", "#", "json_invalid"),
        ("", "#", "missing"),
    ],
)
async def test_malformed_bodies(client: httpx.AsyncClient, body: str, pointer: str, code: str) -> None:
    response = await client.post("/v1/things/1", content=body, headers={"content-type": "application/json"})
    document = problem(response, 400, "malformed_request")
    (error,) = document["errors"]
    assert (error["pointer"], error["code"]) == (pointer, code)
    assert "secret7" not in error["detail"]
    assert "input" not in error


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"[" * 1500, b'{"surveyTitle": NaN}', b"\x00", b'"\xed\xa0\x80"', b"1e999"]
)
async def test_odd_bytes_are_400(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/things/1", content=body, headers={"content-type": "application/json"})
    problem(response, 400, "malformed_request")


async def test_many_errors_are_cut(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/things/1", json={f"f{number}": 1 for number in range(100)})
    assert len(response.json()["errors"]) == 20


@pytest.mark.parametrize("query", ["limit=x", "limit=99999999999999999999999999x", "name=%00", "limit=1&limit="])
async def test_malformed_parameters(client: httpx.AsyncClient, query: str) -> None:
    problem(await client.get(f"/v1/things?{query}"), 400, "malformed_request")


async def test_parameter_errors_name_the_parameter(client: httpx.AsyncClient) -> None:
    (error,) = (await client.get("/v1/things?limit=secret7")).json()["errors"]
    assert (error["parameter"], error["in"], error["code"]) == ("limit", "query", "int_parsing")
    assert "secret7" not in str(error)


async def test_nul_in_a_path(client: httpx.AsyncClient) -> None:
    problem(await client.post("/v1/things/a%00b", json={}), 400, "malformed_request")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON;charset=UTF-8", 200),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
        ("\xff", 415),
    ],
)
async def test_media_types(client: httpx.AsyncClient, content_type: str, status: int) -> None:
    headers = [(b"content-type", content_type.encode("latin-1"))]
    response = await client.post("/v1/things/1", content=b'{"surveyTitle":"a"}', headers=headers)
    assert response.status_code == status
    if status == 415:
        problem(response, 415, "unsupported_media_type")


async def test_body_limit(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 100

    headers = {"content-type": "application/json"}
    for content in (b" " * 2001, pieces()):
        problem(await client.post("/v1/things/1", content=content, headers=headers), 413, "payload_too_large")
    problem(await client.post("/v1/things/1", content=b" " * 2000, headers=headers), 400, "malformed_request")


async def test_unknown_addresses_and_methods(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/nothing"), 404, "not_found")
    problem(await client.get("/v1/things/"), 404, "not_found")
    response = await client.delete("/v1/things")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_every_code_is_a_problem(client: httpx.AsyncClient, code: ErrorCode) -> None:
    response = await client.get(f"/v1/refuse/{code}")
    document = problem(response, CATALOGUE[code].status, str(code))
    assert (document["title"], document["detail"]) == (CATALOGUE[code].title, "because")
    assert "instance" not in document  # an address may hold a secret, such as an answer session's id
    assert ("retry-after" in response.headers) is CATALOGUE[code].retryable
    assert ("www-authenticate" in response.headers) is (CATALOGUE[code].status == 401)


async def test_retry_after_is_what_was_asked(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/refuse/rate_limited?after=7")).headers["retry-after"] == "7"


async def test_a_fault_says_nothing(client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    response = await client.get("/v1/fail")
    problem(response, 500, "internal")
    assert "nullifier" not in response.text
    assert capsys.readouterr().out.count("request_failed") == 1


@pytest.mark.parametrize("offered", ["req-00000001", "A.b_c-1234"])
async def test_request_ids_are_returned(client: httpx.AsyncClient, offered: str) -> None:
    assert (await client.get("/v1/things", headers={"x-request-id": offered})).headers["x-request-id"] == offered


async def test_a_request_id_is_in_the_log_line_and_in_the_span(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Mapping[str, Any]] = []
    finish = RequestTrace.finish

    def noted(trace: RequestTrace, status: int, **about: Any) -> bool:
        ended.append(about["attributes"])
        return finish(trace, status, **about)

    monkeypatch.setattr(RequestTrace, "finish", noted)
    await client.get("/v1/fail", headers={"x-request-id": "req-00000001"})
    assert "request_id=req-00000001" in capsys.readouterr().out
    assert [about["request_id"] for about in ended] == ["req-00000001"]


@pytest.mark.parametrize("offered", ["short", "x" * 65, "<script>alert(1)", "a b c d e f g"])
async def test_odd_request_ids_are_replaced(client: httpx.AsyncClient, offered: str) -> None:
    assert (await client.get("/v1/things", headers={"x-request-id": offered})).headers["x-request-id"] != offered


async def test_trace_context_goes_in_and_out(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/things", headers={"traceparent": PARENT})
    assert response.json()["trace"] == "0af7651916cd43dd8448eb211c80319c"
    version, trace_id, span_id, flags = response.headers["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert span_id != "b7ad6b7169203331"
    fresh = await client.get("/v1/things", headers={"traceparent": "garbage"})
    assert fresh.json()["trace"] == fresh.headers["traceparent"].split("-")[1] != trace_id


async def test_metrics_have_templates_only(client: httpx.AsyncClient, telemetry: Telemetry) -> None:
    for number in range(3):
        await client.post(f"/v1/things/{number}", json={"surveyTitle": "a"})
        await client.get(f"/v1/nothing/{number}")
    await client.request("BREW", "/v1/things")
    await client.get("/livez")
    text = (await client.get("/metrics")).text
    found = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "http_requests_total"
    }
    assert found[("POST", "/v1/things/{thing_id}", "200")] == 3
    assert found[("GET", "unmatched", "404")] == 3
    assert {method for method, _, _ in found} == {"POST", "GET", "OTHER"}
    assert telemetry.registry.get_sample_value("http_requests_total", {"method": "GET", "route": "/livez"}) is None


async def test_health(client: httpx.AsyncClient, telemetry: Telemetry) -> None:
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).status_code == 503
    telemetry.readiness.start()
    assert (await client.get("/readyz")).json() == {"ready": True, "checks": {}}

    async def gone() -> None:
        raise ConnectionError("postgresql://u:p@h")

    telemetry.readiness.add("catalogue", gone)
    telemetry.readiness.stop()
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["checks"]) == (503, {"process": "stopping"})


async def test_openapi_names_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "https://vote.example"}]
    schemas = document["components"]["schemas"]
    assert "surveyTitle" in schemas["Given"]["properties"]
    assert schemas["Given"]["additionalProperties"] is False
    assert set(schemas["Problem"]["properties"]["code"]["enum"]) == {str(code) for code in ErrorCode}
    responses = document["paths"]["/v1/things/{thing_id}"]["post"]["responses"]
    assert set(responses) == {"200", "400", "409"}
    assert "survey_closed" in responses["409"]["description"]
    assert "HTTPValidationError" not in json.dumps(document)
    assert "/livez" not in document["paths"]
    assert (await client.get("/docs")).status_code == 200


async def test_in_production_no_page_runs_scripts_from_elsewhere_where_staff_have_their_sessions(
    telemetry: Telemetry,
) -> None:
    app = create_application("support", replace(telemetry, is_production=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        pages = ("/docs", "/docs/oauth2-redirect", "/redoc", "/metrics", "/openapi.json")
        assert [(await client.get(page)).status_code for page in pages] == [404, 404, 404, 404, 200]
