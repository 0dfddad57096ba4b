"""Device events that come with a request to vote: read at the vendor's sandbox, or out of what it sealed for us."""

import asyncio
import base64
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from domain.accounts import KeyedHash, LookupKind
from integrations.keys import base64url
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import LOOKUP
from integrations.postgres.device_events import PostgresDeviceEvents
from integrations.postgres.device_sightings import PostgresDeviceSightings
from integrations.postgres.roles import IDENTITY
from integrations.vendor_settings import FingerprintSettings
from tests.api.auth.kept import logged
from tests.api.eligibility.conftest import PUBLIC_URL, Eligibility, eligibility_service
from tests.conftest import OwnerPool, SettingsFor
from tests.end_to_end.traces import Kept, standing
from tests.identity_world import IdentityWorld
from tests.integrations.vendor_sandboxes import Vendor, open_vendor

STEP_UP, REFUSED, MISMATCH = (403, "step_up_required"), (403, "device_refused"), (401, "device_mismatch")
ADMITTED = (201, "")
SETTINGS = FingerprintSettings(
    base_url="http://127.0.0.1:1/fingerprint/eu/v4",
    api_key="sk-eu",
    timeout_s=20,
    sealed_keys=("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",),
)


@dataclass
class Voter:
    """Somebody with a session on a device that its login has read."""

    voter_id: str
    token: str
    device: str
    hashes: tuple[KeyedHash, ...]
    key: ProofKey
    visitor_id: str


@dataclass
class Booth:
    """The service with the vendor set up, and whoever comes to it."""

    eligibility: Eligibility
    world: IdentityWorld
    vendor: Vendor
    lookups: KeyedLookupHashes
    sightings: PostgresDeviceSightings
    shown: list[str] = field(default_factory=list)  # what must not be found in a log

    async def voter(self, *flags: str, seen_ago: timedelta | None = timedelta(hours=1), named: bool = True) -> Voter:
        """Make a voter whose device was seen so long ago, with flags; or never, or whose token names none."""
        voter_id, device, key = await self.world.voter(), secrets.token_hex(8), ProofKey.generate()
        created = await self.vendor.control("POST", "events", device=device)
        hashes = await self.lookups.every(LookupKind.DEVICE, created["visitorId"])
        if seen_ago is not None:
            await self.sightings.note(hashes, voter_id, datetime.now(UTC) - seen_ago, flags)
        named_device = base64url.encode_text(hashes[0].digest) if named else ""
        token = self.world.token(voter_id, jkt=key.jkt, device=named_device)
        self.shown.append(created["visitorId"])
        return Voter(voter_id, token, device, hashes, key, created["visitorId"])

    async def event(self, voter: Voter, profile: str = "clean_browser", **changes: Any) -> dict[str, str]:
        """Return what a client sends of a device event."""
        nonce = secrets.token_hex(16)
        new = {"device": voter.device, "linkedId": nonce, "readableAfterMs": 0, **changes}
        created = await self.vendor.control("POST", "events", profile=profile, **new)
        self.shown += [created["eventId"], nonce]
        return {"deviceEventId": created["eventId"], "nonce": nonce}

    async def sealed(self, event: dict[str, str]) -> dict[str, str]:
        told = await self.vendor.control("POST", f"events/{event['deviceEventId']}/sealed")
        return {**event, "deviceResult": told["sealed"]}

    async def ask(self, survey_id: str, voter: Voter, body: Any = None) -> tuple[int, str]:
        path, content = f"/v1/surveys/{survey_id}/voting-token", b"" if body is None else json.dumps(body).encode()
        proof = make_proof(voter.key, "POST", PUBLIC_URL + path, time.time(), token=voter.token, body=content)
        headers = {"authorization": f"DPoP {voter.token}", "dpop": proof, "content-type": "application/json"}
        answer = await self.eligibility.client.post(path, headers=headers, content=content)
        return answer.status_code, answer.json().get("code", "")

    def counted(self, reason: str) -> float:
        return self.eligibility.metric(f'risk_reasons_total{{reason="{reason}"}}')


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def booth(settings_for: SettingsFor, identity_world: IdentityWorld) -> AsyncIterator[Booth]:
    async with open_vendor("fingerprint", fingerprint=SETTINGS) as vendor:
        await vendor.control("PUT", "limits", perSecond=10_000, burst=10_000)
        fingerprint = SETTINGS.model_copy(update={"base_url": f"{vendor.url}/eu/v4"})
        settings = settings_for(IDENTITY, public_url=PUBLIC_URL, fingerprint=fingerprint)
        lookups = KeyedLookupHashes(open_keys(settings, LOOKUP))
        sightings = PostgresDeviceSightings(identity_world.identity["eu"])
        async with eligibility_service(settings) as eligibility:
            yield Booth(eligibility, identity_world, vendor, lookups, sightings)


@pytest_asyncio.fixture(loop_scope="session")
async def survey(identity_world: IdentityWorld) -> str:
    return await identity_world.survey()


async def test_a_fresh_event_of_the_device_admits_whatever_was_known_of_it(booth: Booth, survey: str) -> None:
    people = [
        await booth.voter(),
        await booth.voter(seen_ago=None),
        await booth.voter(seen_ago=timedelta(days=30)),
        await booth.voter("rooted"),
        await booth.voter(named=False),
    ]
    without = [await booth.ask(survey, each) for each in people]
    assert without == [ADMITTED, STEP_UP, STEP_UP, REFUSED, ADMITTED]
    assert [await booth.ask(survey, each, await booth.event(each)) for each in people] == [ADMITTED] * 5
    vpn = await booth.event(people[0], "vpn")
    assert await booth.ask(survey, people[0], vpn) == ADMITTED  # raises the risk, and is no reason alone


@pytest.mark.parametrize("profile", ["rooted", "emulator", "cloned_app", "tampered", "hooked", "bot"])
async def test_a_device_that_was_taken_over_since_the_login_is_refused_from_now_on(
    booth: Booth, survey: str, profile: str
) -> None:
    voter, before = await booth.voter(), booth.counted("device_refused")
    assert await booth.ask(survey, voter) == ADMITTED
    assert await booth.ask(survey, voter, await booth.event(voter, profile)) == REFUSED
    assert await booth.ask(survey, voter) == REFUSED  # it does not help to bring none
    assert booth.counted("device_refused") == before + 2
    assert await booth.ask(survey, voter, await booth.event(voter)) == ADMITTED


async def test_when_somebody_is_let_in_by_an_event_is_not_kept_with_the_device(
    booth: Booth, survey: str, owner_pool: OwnerPool
) -> None:
    voter = await booth.voter(seen_ago=timedelta(hours=5))
    event = await booth.event(voter)
    assert await booth.ask(survey, voter, event) == ADMITTED
    pool = await owner_pool("eu")
    seen = await pool.fetchval(
        "SELECT max(last_seen) FROM identity.device_sighting WHERE voter_id = $1", voter.voter_id
    )
    assert datetime.now(UTC) - seen > timedelta(hours=4)
    rows = await pool.fetch("SELECT row_to_json(used)::text AS text FROM identity.device_event AS used")
    kept = [Kept("postgres identity.device_event", row["text"].encode()) for row in rows]
    markers = {"voter": voter.voter_id, "survey": survey, "event": event["deviceEventId"], "nonce": event["nonce"]}
    assert standing(kept, {name: value.encode() for name, value in markers.items()}) == set()


async def test_an_event_of_another_device_is_refused_and_stays_good_for_its_own(booth: Booth, survey: str) -> None:
    voter, other = await booth.voter(), await booth.voter()
    event = await booth.event(other)
    assert await booth.ask(survey, voter, event) == MISMATCH
    assert await booth.ask(survey, other, event) == ADMITTED


async def test_an_event_is_good_for_one_voter_and_one_survey_however_often(booth: Booth, survey: str) -> None:
    voter = await booth.voter()
    event = await booth.event(voter)
    answers = await asyncio.gather(*(booth.ask(survey, voter, event) for _ in range(10)))
    assert answers == [ADMITTED] * 10
    assert await booth.ask(await booth.world.survey(), voter, event) == STEP_UP
    family = await booth.voter()  # another account on the same device
    family = Voter(
        family.voter_id,
        booth.world.token(family.voter_id, jkt=family.key.jkt, device=base64url.encode_text(voter.hashes[0].digest)),
        voter.device,
        voter.hashes,
        family.key,
        voter.visitor_id,
    )
    before = booth.counted("device_event_invalid")
    assert await booth.ask(survey, family, event) == STEP_UP
    assert await booth.ask(survey, family, await booth.event(family)) == ADMITTED
    used = await booth.event(voter)
    events = PostgresDeviceEvents(booth.world.identity["eu"])
    assert await events.use(used["deviceEventId"], "a login")
    assert await booth.ask(survey, voter, used) == STEP_UP
    assert booth.counted("device_event_invalid") == before + 2


async def test_an_event_that_proves_nothing_opens_nothing(booth: Booth, survey: str) -> None:
    voter, before = await booth.voter(), booth.counted("device_event_invalid")
    events = [
        await booth.event(voter, ageMs=6 * 60_000),
        await booth.event(voter, ageMs=-60_000),
        await booth.event(voter, "replayed"),
        {**await booth.event(voter), "nonce": secrets.token_hex(16)},
        {"deviceEventId": "1700000000000.TESTab", "nonce": secrets.token_hex(16)},
        {"deviceEventId": "../visitors", "nonce": secrets.token_hex(16)},
    ]
    assert [await booth.ask(survey, voter, each) for each in events] == [STEP_UP] * len(events)
    assert booth.counted("device_event_invalid") == before + len(events)
    assert await booth.ask(survey, voter) == ADMITTED


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 403},
        {"kind": "garbage"},
        {"kind": "html"},
        {"kind": "huge"},
        {"kind": "drop"},
        {"kind": "never"},
        {"kind": "slow", "delayS": 5},
    ],
    ids=lambda fault: "-".join(str(part) for part in fault.values()),
)
async def test_a_vendor_that_is_away_is_never_a_yes_and_holds_up_nobody_else(
    booth: Booth, survey: str, fault: dict[str, Any]
) -> None:
    voter, other, before = await booth.voter(), await booth.voter(), booth.counted("device_unavailable")
    event = await booth.event(voter)
    await booth.vendor.fail(**fault, count=100)
    try:
        began = time.monotonic()
        asking = asyncio.create_task(booth.ask(survey, voter, event))
        assert await asyncio.gather(*(booth.ask(survey, other) for _ in range(5))) == [ADMITTED] * 5
        if fault["kind"] in {"never", "slow"}:
            assert not asking.done()
        assert await asking == STEP_UP
        assert time.monotonic() - began < 3
    finally:
        await booth.vendor.heal()
    assert booth.counted("device_unavailable") == before + 1
    assert await booth.ask(survey, voter, event) == ADMITTED


async def test_a_sealed_event_is_asked_of_nobody_and_judged_like_any_other(booth: Booth, survey: str) -> None:
    voter, other = await booth.voter(), await booth.voter()
    good, rooted = await booth.sealed(await booth.event(voter)), await booth.sealed(await booth.event(voter, "rooted"))
    old, foreign = (
        await booth.sealed(await booth.event(voter, ageMs=600_000)),
        await booth.sealed(await booth.event(other)),
    )
    unopened = [
        {**await booth.event(voter), "deviceResult": good["deviceResult"]},  # of another event
        {**await booth.event(voter), "deviceResult": base64.b64encode(secrets.token_bytes(400)).decode()},
        {**await booth.event(voter), "deviceResult": "x" * 48 * 1024},
    ]
    await booth.vendor.fail("status", status=500, count=100)
    try:
        assert await booth.ask(survey, voter, good) == ADMITTED
        assert [await booth.ask(survey, voter, each) for each in (old, foreign)] == [STEP_UP, MISMATCH]
        assert [await booth.ask(survey, voter, each) for each in unopened] == [STEP_UP] * 3
        assert await booth.ask(survey, voter, rooted) == REFUSED
    finally:
        await booth.vendor.heal()


@pytest.mark.parametrize(
    "body",
    [
        {"deviceEventId": "1700000000000.TESTab"},
        {"nonce": "n" * 16},
        {"deviceResult": "c2VhbGVk"},
        {"deviceResult": "c2VhbGVk", "nonce": "n" * 16},
        {"deviceEventId": "", "nonce": "n" * 16},
        {"deviceEventId": "e" * 129, "nonce": "n" * 16},
        {"deviceEventId": "e", "nonce": "n" * 15},
        {"deviceEventId": "e", "nonce": "n" * 129},
        {"deviceEventId": "e", "nonce": "n" * 16, "deviceResult": "r" * (48 * 1024 + 1)},
        {"deviceEventId": "e", "nonce": "n" * 16, "survey": "1"},
        {"deviceEventId": 1, "nonce": "n" * 16},
        {"deviceEventId": None},
    ],
)
async def test_a_body_that_is_no_event_is_malformed(booth: Booth, survey: str, body: dict[str, Any]) -> None:
    assert await booth.ask(survey, await booth.voter(), body) == (400, "malformed_request")


async def test_where_the_vendor_is_not_set_up_an_event_is_never_a_yes(
    booth: Booth, survey: str, eligibility: Eligibility
) -> None:
    voter = await booth.voter()
    event, without = await booth.sealed(await booth.event(voter)), Booth(**{**vars(booth), "eligibility": eligibility})
    assert await without.ask(survey, voter, event) == STEP_UP
    assert await without.ask(survey, voter, {}) == ADMITTED


async def test_no_event_and_no_device_gets_into_a_log(
    booth: Booth, survey: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    voter, other, first = await booth.voter(), await booth.voter(), len(booth.shown)
    asked = [
        await booth.event(voter),
        await booth.event(other),
        await booth.event(voter, ageMs=600_000),
        {**await booth.event(voter), "deviceResult": base64.b64encode(secrets.token_bytes(400)).decode()},
        await booth.event(voter, "rooted"),
    ]
    answers = [await booth.ask(survey, voter, each) for each in asked]
    assert answers == [ADMITTED, MISMATCH, STEP_UP, ADMITTED, REFUSED]
    await booth.vendor.fail("garbage", count=100)
    try:
        assert await booth.ask(survey, voter, await booth.event(voter)) == REFUSED  # as it was said before
    finally:
        await booth.vendor.heal()
    markers = {str(place): value.encode() for place, value in enumerate(booth.shown[first:])}
    markers |= {each.voter_id: each.visitor_id.encode() for each in (voter, other)}
    markers |= {f"token {each.voter_id}": each.token.encode() for each in (voter, other)}
    lines = logged(capfd, caplog)
    assert b"admission_denied_for_risk" in lines.content
    assert standing([lines], markers) == set()
