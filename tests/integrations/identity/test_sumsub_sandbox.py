"""What only a sandbox can be made to do: fail, review, and erase."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

import httpx
import msgspec
import pytest

from domain.errors import DomainError, ErrorCode
from domain.ids import new_registration_id, proofing_case_id
from domain.proofing import Document, ProofingState
from integrations.identity.sumsub.client import SumsubProofing
from integrations.identity.sumsub.signing import request_signature
from integrations.vendor_http import VendorClient
from tests.integrations.identity.conftest import WITHIN_S, Control, Sumsub, World


@pytest.fixture
def sumsub_only(sumsub: Sumsub, world: World) -> Sumsub:
    if sumsub.settings is not world.sumsub:
        pytest.skip("the vendor cannot be made to fail")
    return sumsub


async def unavailable(call: Awaitable[object]) -> DomainError:
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(DomainError) as caught:
            await call
    assert caught.value.code is ErrorCode.PROOFING_UNAVAILABLE
    return caught.value


FAULTS = [
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 502},
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 408},
    {"kind": "status", "status": 409, "retryAfterS": 10},
    {"kind": "drop"},
    {"kind": "never"},
    {"kind": "slow", "delayS": 1},
    {"kind": "html"},
    {"kind": "garbage"},
    {"kind": "huge"},
    {"kind": "truncated"},
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(map(str, fault.values())))
async def test_every_call_bears_every_fault(
    sumsub_only: Sumsub, sumsub_control: Control, case_id: str, fault: dict[str, Any]
) -> None:
    proofing = sumsub_only.with_(timeout_s=0.15 if fault["kind"] in {"never", "slow"} else WITHIN_S)
    reference = await sumsub_only.proofing.open_case(case_id)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: proofing.open_case(case_id),
        lambda: proofing.client_access(case_id),
        lambda: proofing.read_case(reference),
        lambda: proofing.erase(reference),
    ]
    for call in calls:
        await sumsub_control("POST", "/faults", **fault)
        error = await unavailable(call())
        assert case_id not in str(error)
        assert error.retry_after_s == fault.get("retryAfterS")
        await sumsub_control.end_fault(fault)
    assert await sumsub_only.proofing.open_case(case_id) == reference


@pytest.mark.parametrize(("retry_after_s", "expected"), [(None, None), (7, 7)])
async def test_a_limit_says_when_to_come_back_or_does_not(
    sumsub_only: Sumsub, sumsub_control: Control, case_id: str, retry_after_s: int | None, expected: int | None
) -> None:
    await sumsub_control("POST", "/faults", kind="status", status=429, retryAfterS=retry_after_s)
    error = await unavailable(sumsub_only.proofing.open_case(case_id))
    assert error.retry_after_s == expected
    await sumsub_only.proofing.open_case(case_id)


@pytest.mark.parametrize(
    "fault", [{"kind": "drop", "after": True}, {"kind": "truncated"}, {"kind": "never", "after": True}]
)
async def test_a_case_whose_answer_was_lost_is_found_again(
    sumsub_only: Sumsub, sumsub_control: Control, case_id: str, fault: dict[str, Any]
) -> None:
    await sumsub_control("POST", "/faults", **fault, method="POST", path="^/resources/applicants$")
    timeout_s = 0.3 if fault["kind"] == "never" else WITHIN_S
    await unavailable(sumsub_only.with_(timeout_s=timeout_s).open_case(case_id))
    await sumsub_control.end_fault(fault)
    reference = await sumsub_only.proofing.open_case(case_id)
    found = await sumsub_control("GET", f"/applicants/{case_id}")
    assert found["id"] == reference


async def test_a_conflict_over_nothing_is_tried_again(
    sumsub_only: Sumsub, sumsub_control: Control, case_id: str
) -> None:
    await sumsub_control("POST", "/faults", kind="status", status=409, path="^/resources/applicants$")
    await unavailable(sumsub_only.proofing.open_case(case_id))


async def test_many_open_one_case_at_once(sumsub_only: Sumsub, case_id: str) -> None:
    references = await asyncio.gather(*(sumsub_only.proofing.open_case(case_id) for _ in range(10)))
    assert len(set(references)) == 1


@pytest.mark.parametrize("body", [b"<h1>Not found</h1>", b'{"detail":"Not Found"}', b"", b'{"code":403}'])
async def test_somebody_elses_404_does_not_mean_that_a_case_is_gone(sumsub_only: Sumsub, body: bytes) -> None:
    def balancer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404, stream=httpx.ByteStream(body))

    async with VendorClient("http://vendor.example", {}, httpx.MockTransport(balancer)) as client:
        proofing = SumsubProofing(client, sumsub_only.settings)
        await unavailable(proofing.read_case("a"))
        await unavailable(proofing.erase("a"))


async def test_a_person_is_approved_and_named_to_us_alone(
    sumsub_only: Sumsub, sumsub_control: Control, case_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    reference = await sumsub_only.proofing.open_case(case_id)
    access = await sumsub_only.proofing.client_access(case_id)
    number = secrets.token_hex(6).upper()
    await sumsub_control("POST", "/sdk", token=access.token, country="FRA", number=number, dob="2001-02-03")
    assert (await sumsub_only.proofing.read_case(reference)).state is ProofingState.IN_REVIEW
    await sumsub_control("POST", f"/applicants/{case_id}/hold")
    assert (await sumsub_only.proofing.read_case(reference)).state is ProofingState.IN_REVIEW
    await sumsub_control("POST", f"/applicants/{case_id}/verdict", scenario="shared_device")
    finding = await sumsub_only.proofing.read_case(reference)
    assert finding.state is ProofingState.APPROVED
    assert finding.document == Document("FRA", "passport", number)
    assert finding.born_on == date(2001, 2, 3)
    assert finding.risk_labels == ("device:manyapplicantssamedevice",)
    assert number not in repr(finding) + caplog.text
    await sumsub_control(
        "POST", f"/applicants/{case_id}/verdict", reviewAnswer="RED", reviewRejectType="FINAL", scenario="duplicate"
    )
    finding = await sumsub_only.proofing.read_case(reference)
    assert (finding.state, finding.same_face) == (ProofingState.REJECTED, True)
    assert finding.document is None


async def test_a_retry_is_another_attempt_and_a_final_no_is_none(
    sumsub_only: Sumsub, sumsub_control: Control, case_id: str
) -> None:
    reference = await sumsub_only.proofing.open_case(case_id)
    retry = {"reviewAnswer": "RED", "reviewRejectType": "RETRY", "rejectLabels": ["BAD_SELFIE"]}
    await sumsub_control("POST", f"/applicants/{case_id}/evidence", verdict=retry)
    first = await sumsub_only.proofing.read_case(reference)
    await sumsub_only.proofing.allow_retry(reference)
    final = {"reviewAnswer": "RED", "reviewRejectType": "FINAL", "scenario": "same_face"}
    await sumsub_control("POST", f"/applicants/{case_id}/evidence", verdict=final)
    second = await sumsub_only.proofing.read_case(reference)
    assert (first.state, second.state) == (ProofingState.RETRY, ProofingState.REJECTED)
    assert (second.attempt, second.same_face) == (first.attempt + 1, True)
    answer = await sumsub_control.client.post(f"/_control/applicants/{case_id}/evidence", json={})
    assert (answer.status_code, answer.json()["errorCode"]) == (409, 1009)


async def test_erasure_waits_for_a_review_and_for_the_vendor(
    sumsub_only: Sumsub, sumsub_control: Control, case_id: str
) -> None:
    reference = await sumsub_only.proofing.open_case(case_id)
    await sumsub_control("POST", f"/applicants/{case_id}/evidence")
    await unavailable(sumsub_only.proofing.erase(reference))
    await sumsub_control("POST", f"/applicants/{case_id}/verdict")
    assert not await sumsub_only.proofing.erase(reference)
    assert not await sumsub_only.proofing.erase(reference)
    await sumsub_control("POST", f"/applicants/{case_id}/forget-person")
    assert await sumsub_only.proofing.erase(reference)
    await sumsub_control("DELETE", f"/applicants/{reference}")
    assert await sumsub_only.proofing.erase(reference)
    assert (await sumsub_only.proofing.read_case(reference)).state is ProofingState.GONE


async def test_the_sandbox_checks_what_the_vendor_checks(sumsub_only: Sumsub, sumsub_control: Control) -> None:
    path, at = "/resources/applicants/a/one", str(int(time.time()))
    secret = sumsub_only.settings.secret_key.get_secret_value().encode()
    target = f"{httpx.URL(sumsub_only.settings.base_url).path}{path}".encode()
    good = {
        "x-app-token": sumsub_only.settings.app_token.get_secret_value(),
        "x-app-access-ts": at,
        "x-app-access-sig": request_signature(secret, at, "GET", target, b""),
    }
    cases: list[tuple[dict[str, str], int | None]] = [
        (good, None),
        ({**good, "x-app-access-sig": ""}, 4006),
        ({**good, "x-app-token": "nonsense", "x-app-access-ts": "1"}, 4000),
        ({**good, "x-app-token": "prd:other.token", "x-app-access-ts": "1"}, 4001),
        ({**good, "x-app-access-ts": "1"}, 4004),
        ({**good, "x-app-access-sig": good["x-app-access-sig"].upper()}, 4003),
    ]
    for headers, error_code in cases:
        answer = await sumsub_control.client.get(path, headers=headers)
        assert (answer.status_code, answer.json().get("errorCode")) == (401 if error_code else 404, error_code)
        assert answer.json()["correlationId"]
    assert (await sumsub_control.client.get(f"{path}?a=1", headers=good)).json()["errorCode"] == 4003


async def test_the_sandbox_has_the_vendors_limits(sumsub_only: Sumsub, sumsub_control: Control) -> None:
    await sumsub_control("PUT", "/switches", rateLimits=True, dailyApplicants=0)
    statuses = []
    for _ in range(51):
        answer = await sumsub_only.ask("POST", "/resources/applicants?levelName=basic%20level", json={})
        statuses.append(answer.status_code)
    assert statuses == [403] * 50 + [429]
    await sumsub_control("PUT", "/switches", clockOffsetS=-300)
    await unavailable(sumsub_only.proofing.read_case("a"))


async def test_a_document_comes_in_parts(sumsub_only: Sumsub, case_id: str) -> None:
    reference = await sumsub_only.proofing.open_case(case_id)
    path = f"/resources/applicants/{reference}/info/idDoc"
    metadata = msgspec.json.encode({"idDocType": "ID_CARD", "country": "DEU", "number": "7", "dob": "1990-01-01"})

    async def add(content: bytes) -> httpx.Response:
        return await sumsub_only.ask("POST", path, files={"metadata": (None, metadata), "content": ("a.png", content)})

    missing = await sumsub_only.ask("POST", f"/resources/applicants/{reference}/status/pending?reason=r")
    assert missing.status_code == 409
    added, again, empty = await add(b"\x89PNG"), await add(b"\x89PNG"), await add(b"")
    assert added.headers["x-image-id"].isdigit()
    assert (again.status_code, again.json()["errorName"]) == (409, "duplicate-document")
    assert (empty.status_code, empty.json()["errorName"]) == (400, "empty-file")
    steps = (await sumsub_only.ask("GET", f"/resources/applicants/{reference}/requiredIdDocsStatus")).json()
    assert steps["IDENTITY"]["imageIds"] == [int(added.headers["x-image-id"])]
    assert (await sumsub_only.ask("POST", f"/resources/applicants/{reference}/status/pending")).json() == {"ok": 1}
    refused = await sumsub_only.ask("POST", f"/resources/applicants/{reference}/reset")
    assert refused.status_code == 409
    await sumsub_only.simulate(reference, "GREEN")
    assert (await sumsub_only.proofing.read_case(reference)).document == Document("DEU", "id_card", "7")
    assert (await sumsub_only.ask("POST", f"/resources/applicants/{reference}/reset")).json() == {"ok": 1}
    status = (await sumsub_only.ask("GET", f"/resources/applicants/{reference}/status")).json()
    assert (status["reviewStatus"], status["attemptCnt"]) == ("init", 1)


async def test_an_access_of_the_sdk_expires(sumsub_only: Sumsub, sumsub_control: Control) -> None:
    user = proofing_case_id(new_registration_id("eu"), 1)
    body = {"userId": user, "levelName": sumsub_only.settings.level, "ttlInSecs": 0}
    token = (await sumsub_only.ask("POST", "/resources/accessTokens/sdk", json=body)).json()["token"]
    assert token.startswith("_act-sbx-")
    answer = await sumsub_control.client.post("/_control/sdk", json={"token": token})
    assert answer.status_code == 401
