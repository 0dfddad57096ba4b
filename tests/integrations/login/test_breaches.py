"""Breached passwords against the sandbox over HTTP, and the public service where the environment asks for it.

`COMITIA_CONTRACT_BREACHES_URL` makes the public service a second subject.
"""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from domain.errors import DomainError, ErrorCode
from integrations.login.breaches import BreachedPasswordRanges, open_breaches
from integrations.vendor_settings import BreachesSettings
from tests.integrations.vendor_sandboxes import Vendor, open_vendor

REAL = os.environ.get("COMITIA_CONTRACT_BREACHES_URL", "")
SUBJECTS = ["sandbox", *(["vendor"] if REAL else [])]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor() -> AsyncIterator[Vendor]:
    async with open_vendor("breaches", breaches=BreachesSettings(base_url="http://127.0.0.1:1")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def breaches(vendor: Vendor) -> AsyncIterator[BreachedPasswordRanges]:
    async with open_breaches(BreachesSettings(base_url=vendor.url, timeout_s=5.0)) as opened:
        yield opened


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_lost_passwords_are_told_from_others(vendor: Vendor, subject: str) -> None:
    url = REAL if subject == "vendor" else vendor.url
    async with open_breaches(BreachesSettings(base_url=url, timeout_s=5.0)) as breaches:
        assert await breaches.times_seen("password") > 1_000_000
        assert await breaches.times_seen(secrets.token_hex(32)) == 0


async def test_what_is_lost_from_now_on_is_known(vendor: Vendor, breaches: BreachedPasswordRanges) -> None:
    password = f"pässwörd-{secrets.token_hex(8)}"
    assert await breaches.times_seen(password) == 0
    await vendor.control("POST", "breaches", password=password, count=3)
    assert await breaches.times_seen(password) == 3
    assert await breaches.times_seen("") == 0
    assert await breaches.times_seen("\ud800") == 0


async def test_answers_are_padded_with_what_counts_nothing(vendor: Vendor) -> None:
    plain = (await vendor.client.get(f"{vendor.url}/range/21bd1")).text.split()
    padded = [
        (await vendor.client.get(f"{vendor.url}/range/21BD1", headers={"Add-Padding": "true"})).text.split()
        for _ in range(2)
    ]
    assert f"{hashlib.sha1(b'P@ssw0rd').hexdigest().upper()[5:]}:52579" in plain
    assert all(800 <= len(lines) <= 1000 and set(plain) < set(lines) for lines in padded)
    assert all(line.endswith(":0") for lines in padded for line in set(lines) - set(plain))
    assert padded[0] != padded[1]
    refused = await vendor.client.get(f"{vendor.url}/range/21BDX")
    assert (refused.status_code, refused.text) == (400, "The hash prefix was not in a valid format")


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "retryAfterS": 2},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 400},
        {"kind": "html"},
        {"kind": "garbage"},
        {"kind": "truncated"},
        {"kind": "huge", "bytes": 2_000_000},
        {"kind": "drop"},
        {"kind": "never"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
async def test_no_failure_is_taken_for_a_good_password(vendor: Vendor, fault: dict[str, Any]) -> None:
    timeout_s = 0.3 if fault["kind"] == "never" else 5.0
    await vendor.fail(**fault)
    async with open_breaches(BreachesSettings(base_url=vendor.url, timeout_s=timeout_s)) as breaches:
        with pytest.raises(DomainError) as raised:
            await breaches.times_seen("password")
    assert raised.value.code is ErrorCode.BREACHES_UNAVAILABLE
    assert raised.value.retry_after_s == fault.get("retryAfterS")
