"""Turnstile's client against its sandbox over HTTP; and against the vendor itself, with its testing keys, where asked.

`COMITIA_CONTRACT_TURNSTILE_URL` makes the vendor a second subject: its testing keys are published.
"""

import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError

from domain.challenges import ChallengeAction, ChallengeVerdict
from domain.errors import DomainError, ErrorCode
from integrations.challenges.client import TurnstileChallenge, open_turnstile
from integrations.challenges.sandbox import DUMMY_TOKEN
from integrations.settings import Environment, Settings
from integrations.vendor_http import VendorHttp, open_vendor_client
from integrations.vendor_settings import TurnstileSettings
from tests.integrations.vendor_sandboxes import Vendor, open_vendor

SECRET = "0xSANDBOX"
REAL = os.environ.get("COMITIA_CONTRACT_TURNSTILE_URL", "")
SUBJECTS = ["sandbox", *(["vendor"] if REAL else [])]
PASS, FAIL, SPENT = (f"{digit}x{'0' * 31}AA" for digit in "123")


def settings_of(base_url: str, secret: str = SECRET) -> TurnstileSettings:
    return TurnstileSettings(base_url=base_url, secret=secret, hostnames={"vote.example"}, timeout_s=5.0)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor() -> AsyncIterator[Vendor]:
    async with open_vendor("turnstile", turnstile=settings_of("http://127.0.0.1:1/v0")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def challenge(vendor: Vendor) -> AsyncIterator[TurnstileChallenge]:
    async with open_turnstile(settings_of(f"{vendor.url}/v0")) as opened:
        yield opened


@asynccontextmanager
async def hasty(vendor: Vendor, timeout_s: float) -> AsyncIterator[TurnstileChallenge]:
    settings = settings_of(f"{vendor.url}/v0").model_copy(update={"timeout_s": timeout_s})
    async with open_turnstile(settings) as opened:
        yield opened


async def token_of(vendor: Vendor, **new: Any) -> str:
    fields = {"hostname": "vote.example", "action": "login", "cdata": "nonce-1", **new}
    token: str = (await vendor.control("POST", "tokens", **fields))["token"]
    return token


async def redeem(challenge: TurnstileChallenge, token: str, key: str = "") -> ChallengeVerdict:
    return await challenge.redeem(token, ChallengeAction.LOGIN, "nonce-1", key or str(uuid.uuid4()))


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize(
    ("secret", "verdict"),
    [
        (PASS, ChallengeVerdict(passed=True)),
        (FAIL, ChallengeVerdict(passed=False, reasons=("invalid-input-response",))),
        (SPENT, ChallengeVerdict(passed=False, reasons=("timeout-or-duplicate",))),
    ],
    ids=["pass", "fail", "spent"],
)
async def test_testing_keys_answer_as_published(
    vendor: Vendor, subject: str, secret: str, verdict: ChallengeVerdict
) -> None:
    url = REAL if subject == "vendor" else f"{vendor.url}/v0"
    async with open_turnstile(settings_of(url, secret)) as challenge:
        assert await redeem(challenge, DUMMY_TOKEN) == verdict


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_a_secret_that_is_not_good_is_a_fault_of_ours(vendor: Vendor, subject: str) -> None:
    url = REAL if subject == "vendor" else f"{vendor.url}/v0"
    async with open_turnstile(settings_of(url, "not-a-secret")) as challenge:
        with pytest.raises(DomainError, match="challenges_misconfigured: invalid-input-secret"):
            await redeem(challenge, "1.some-token")


def test_production_refuses_testing_keys() -> None:
    for secret in (PASS, FAIL, SPENT):
        with pytest.raises(ValidationError, match="testing keys"):
            Settings(environment=Environment.PRODUCTION, turnstile=settings_of("https://challenges.example/v0", secret))
    good = settings_of("https://challenges.example/v0", "0x4AAAAAAA")
    assert Settings(environment=Environment.PRODUCTION, turnstile=good).turnstile == good


async def test_a_token_is_good_once_and_under_its_key_again(vendor: Vendor, challenge: TurnstileChallenge) -> None:
    token, key = await token_of(vendor), str(uuid.uuid4())
    assert [(await redeem(challenge, token, key)).passed for _ in range(2)] == [True, True]
    assert await redeem(challenge, token) == ChallengeVerdict(passed=False, reasons=("timeout-or-duplicate",))


async def test_a_token_is_good_for_five_minutes(vendor: Vendor, challenge: TurnstileChallenge) -> None:
    assert (await redeem(challenge, await token_of(vendor, ageS=290))).passed
    assert (await redeem(challenge, await token_of(vendor, ageS=310))).reasons == ("timeout-or-duplicate",)
    token = await token_of(vendor)
    await vendor.control("PUT", "clock", offsetS=301)
    assert (await redeem(challenge, token)).reasons == ("timeout-or-duplicate",)
    await vendor.control("PUT", "clock", offsetS=0)


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"hostname": "evil.example"}, ("hostname_unexpected",)),
        ({"changes": {"hostname": None}}, ("hostname_unexpected",)),
        ({"action": "register"}, ("action_unexpected",)),
        ({"changes": {"action": None}}, ("action_unexpected",)),
        ({"cdata": "nonce-2"}, ("nonce_mismatch",)),
        ({"changes": {"cdata": ["nonce-1"]}}, ("nonce_mismatch",)),
        ({"changes": {"challenge_ts": "2022-02-28T15:14:30.096Z"}}, ("challenge_old",)),
        ({"changes": {"challenge_ts": "2099-02-28T15:14:30.096Z"}}, ("challenge_ahead",)),
        ({"changes": {"challenge_ts": None}}, ("challenge_undated",)),
        ({"changes": {"challenge_ts": "soon"}}, ("challenge_undated",)),
        ({"changes": {"metadata": {"result_with_testing_key": True}}}, ("testing_key",)),
        ({"action": "", "cdata": ""}, ("action_unexpected", "nonce_mismatch")),
        ({"changes": {"metadata": {"ephemeral_id": "x:9f78e0ed210960d7693b167e"}, "novelty": 1}}, ()),
    ],
    ids=lambda value: "-".join(value) or "passed" if isinstance(value, tuple) else "",
)
async def test_a_good_token_must_be_for_this(
    vendor: Vendor, challenge: TurnstileChallenge, fields: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    verdict = await redeem(challenge, await token_of(vendor, **fields))
    assert verdict == ChallengeVerdict(passed=not reasons, reasons=reasons)


async def test_without_a_nonce_of_ours_nothing_passes(vendor: Vendor, challenge: TurnstileChallenge) -> None:
    token = await token_of(vendor, cdata="")
    verdict = await challenge.redeem(token, ChallengeAction.LOGIN, "", str(uuid.uuid4()))
    assert verdict.reasons == ("nonce_mismatch",)


async def test_what_is_no_token_is_refused(vendor: Vendor, challenge: TurnstileChallenge) -> None:
    await vendor.fail("status", status=503)
    assert (await redeem(challenge, "")).reasons == ("token_malformed",)
    assert (await redeem(challenge, "x" * 2049)).reasons == ("token_malformed",)
    await vendor.heal()
    assert (await redeem(challenge, "x" * 2048)).reasons == ("invalid-input-response",)
    assert (await redeem(challenge, DUMMY_TOKEN)).reasons == ("invalid-input-response",)


async def test_a_success_under_another_type_is_no_success(vendor: Vendor, challenge: TurnstileChallenge) -> None:
    for changed in ("true", 1, None):
        token = await token_of(vendor, changes={"success": changed})
        with pytest.raises(DomainError, match="challenges_unavailable"):
            await redeem(challenge, token)


async def test_the_vendors_text_is_no_reason(vendor: Vendor, challenge: TurnstileChallenge) -> None:
    codes = ["<script>", 7, "x" * 99, "timeout-or-duplicate"]
    token = await token_of(vendor, changes={"success": False, "error-codes": codes})
    assert (await redeem(challenge, token)).reasons == ("timeout-or-duplicate",)
    token = await token_of(vendor, changes={"success": False, "error-codes": "bad"})
    assert (await redeem(challenge, token)).reasons == ("unexplained",)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 429},
        {"kind": "html"},
        {"kind": "garbage"},
        {"kind": "truncated"},
        {"kind": "huge", "bytes": 2_000_000},
        {"kind": "drop"},
        {"kind": "drop", "after": True},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
async def test_a_failure_is_borne_twice_under_one_key(
    vendor: Vendor, challenge: TurnstileChallenge, fault: dict[str, Any]
) -> None:
    await vendor.fail(**fault, count=2)
    assert (await redeem(challenge, await token_of(vendor))).passed
    await vendor.fail(**fault, count=3)
    token = await token_of(vendor)
    with pytest.raises(DomainError) as raised:
        await redeem(challenge, token)
    assert raised.value.code is ErrorCode.CHALLENGES_UNAVAILABLE
    assert await vendor.control("GET", "faults") == []


async def test_an_answer_lost_after_the_effect_is_had_again_under_the_same_key_alone(vendor: Vendor) -> None:
    token, key = await token_of(vendor), str(uuid.uuid4())
    await vendor.fail("never", after=True)
    async with hasty(vendor, 0.3) as impatient:
        with pytest.raises(DomainError, match="challenges_unavailable"):
            await redeem(impatient, token, key)
    async with hasty(vendor, 5.0) as again:
        assert (await redeem(again, token)).reasons == ("timeout-or-duplicate",)
        assert (await redeem(again, token, key)).passed


async def test_internal_errors_are_tried_again(vendor: Vendor, challenge: TurnstileChallenge) -> None:
    await vendor.control("PUT", "internal-errors", count=2)
    assert (await redeem(challenge, await token_of(vendor))).passed
    await vendor.control("PUT", "internal-errors", count=3)
    with pytest.raises(DomainError, match="challenges_unavailable"):
        await redeem(challenge, await token_of(vendor))


async def test_a_vendor_that_never_answers_is_waited_for_once(vendor: Vendor) -> None:
    await vendor.fail("never", count=3)
    token, began = await token_of(vendor), time.monotonic()
    async with hasty(vendor, 0.3) as impatient:
        with pytest.raises(DomainError, match="challenges_unavailable"):
            await redeem(impatient, token)
    assert time.monotonic() - began < 3
    assert (await vendor.control("GET", "faults"))[0]["count"] == 2
    await vendor.heal()


async def test_the_sandbox_takes_both_forms_and_knows_every_code(vendor: Vendor) -> None:
    url = f"{vendor.url}/v0/siteverify"

    async def codes(**request: Any) -> list[str]:
        answer = await vendor.client.post(url, **request)
        assert answer.status_code == 200
        found: list[str] = answer.json()["error-codes"]
        return found

    token = await token_of(vendor)
    assert await codes(json={"secret": SECRET, "response": token}) == []
    assert await codes(data={"secret": SECRET, "response": token}) == ["timeout-or-duplicate"]
    assert await codes(json={}) == ["missing-input-secret"]
    assert await codes(json={"secret": SECRET}) == ["missing-input-response"]
    assert await codes(json={"secret": "x", "response": token}) == ["invalid-input-secret"]
    assert await codes(json={"secret": PASS, "response": token}) == ["invalid-input-secret"]
    assert await codes(json={"secret": SECRET, "response": "x" * 2049}) == ["invalid-input-response"]
    assert await codes(json=[]) == ["bad-request"]
    assert await codes(content=b"x", headers={"content-type": "text/plain"}) == ["bad-request"]


async def test_a_request_that_the_vendor_calls_malformed_is_a_fault_of_ours(vendor: Vendor) -> None:
    async with open_vendor_client(f"{vendor.url}/v0") as http:
        challenge = TurnstileChallenge(
            VendorHttp(http, ErrorCode.CHALLENGES_UNAVAILABLE, timeout_s=5.0), settings_of("http://127.0.0.1:1")
        )
        token = await token_of(vendor, changes={"success": False, "error-codes": ["bad-request"]})
        with pytest.raises(DomainError, match="challenges_misconfigured: bad-request"):
            await redeem(challenge, token)
