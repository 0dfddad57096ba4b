"""From an empty client to an active voter over HTTP: real databases, Temporal and sandboxes of the vendors."""

import asyncio
import json
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest

from domain.eligibility import VoterStatus
from domain.ids import new_registration_id, new_voter_id, proofing_case_id
from domain.tokens import Assurance
from integrations.identity.policy import registration_policy
from integrations.identity.sumsub.webhook import payload_digest
from tests.api.auth.registration_town import BY_LETTER, CELLS, WITHIN_S, Town, number
from tests.audited import leaves
from tests.conftest import OwnerPool
from tests.workflows.registration_ports import Claims
from workers.identity_sweeps import begin_unstarted, deliver_waiting

_NONE = timedelta(0)


async def test_a_person_registers_over_http_and_is_an_active_voter(town: Town) -> None:
    mail = f"{secrets.token_hex(4)}@example.org"
    begun = await town.begin(mail=mail)
    assert begun.status_code == 201, begun.text
    assert set(begun.json()) == {"registrationId", "registrationSecret", "stage", "expiresAt"}
    registration = begun.json()["registrationId"]
    early = await town.send("POST", registration, "/proofing-access")
    assert (early.status_code, early.json()["code"]) == (409, "registration_stage")
    await town.prove(registration, mail)
    await town.at_provider(registration)
    access = await town.send("POST", registration, "/proofing-access")
    assert access.status_code == 200, access.text
    assert access.json()["provider"] == "sumsub"
    await town.control(
        "sumsub", "sdk", token=access.json()["token"], number=number(), verdict={"reviewAnswer": "GREEN"}
    )
    ended = await town.at(registration, "active")
    assert (ended["reasons"], ended["advice"], ended["expiresAt"], ended["caseNo"]) == ([], "", None, 1)
    account = await town.cells["eu"].accounts.get((await town.row(registration)).voter_id)
    assert account is not None
    assert (account.status, account.age_class, account.region) == (VoterStatus.ACTIVE, 18, "DE")
    assert account.person_id is not None
    again = await town.begin(mail=mail)  # the same answer, until the address is proved
    assert again.status_code == 201
    second = again.json()["registrationId"]
    await town.prove(second, mail)
    assert (await town.at(second, "refused"))["reasons"] == ["mail_in_use"]


async def test_a_region_without_biometrics_proofs_by_document_and_letter_and_knows_the_same_person(town: Town) -> None:
    mail, document = f"{secrets.token_hex(4)}@example.org", number()
    registration = (await town.begin(mail=mail, region=BY_LETTER)).json()["registrationId"]
    await town.prove(registration, mail)
    await town.at_provider(registration)
    access = (await town.send("POST", registration, "/proofing-access")).json()
    assert access["provider"] == "letters"
    person = {"authorization": f"Bearer {access['token']}"}
    shown = {"country": "DEU", "kind": "passport", "number": document, "bornOn": "1990-02-03"}
    entered = {**shown, "name": "Ada Lovelace", "address": "A 1"}
    assert (await town.vendor.post("/letters/v1/person/document", json=entered, headers=person)).status_code == 200
    (letter,) = (await town.vendor.get(f"/letters/_control/letters/{proofing_case_id(registration, 1)}")).json()
    typed = await town.vendor.post("/letters/v1/person/code", json={"code": letter["code"]}, headers=person)
    assert typed.status_code == 200, typed.text
    await town.at(registration, "active")
    account = await town.cells["eu"].accounts.get((await town.row(registration)).voter_id)
    assert account is not None
    assert (account.assurance, account.age_class, account.region) == (Assurance.SUBSTANTIAL, 18, BY_LETTER)
    elsewhere = await town.proofed("us", document)  # with a face, at the other provider
    assert (elsewhere["stage"], elsewhere["reasons"]) == ("refused", ["already_registered"])


async def test_a_retry_shows_reasons_and_advice_to_its_person(town: Town) -> None:
    mail, document = f"{secrets.token_hex(4)}@example.org", number()
    registration = (await town.begin(mail=mail)).json()["registrationId"]
    await town.prove(registration, mail)
    await town.at_provider(registration)
    await town.show(
        registration,
        document,
        reviewAnswer="RED",
        rejectLabels=["UNSATISFACTORY_PHOTOS"],
        reviewRejectType="RETRY",
        moderationComment="Take it in better light",
        clientComment="not for the person",
    )
    retry = await town.at(registration, "retry")
    assert (retry["reasons"], retry["advice"]) == (["unsatisfactory_photos"], "Take it in better light")
    async with asyncio.timeout(WITHIN_S):
        while True:  # once the case takes evidence again
            with suppress(AssertionError):
                await town.show(registration, document)
                break
            await asyncio.sleep(0.1)
    await town.at(registration, "active")


async def test_one_person_in_two_cells_at_once_is_one_voter(town: Town, owner_pool: OwnerPool) -> None:
    document = number()
    ends = await asyncio.gather(*(town.proofed(cell, document) for cell in CELLS))
    assert sorted(end["stage"] for end in ends) == ["active", "refused"]
    (refused,) = [end for end in ends if end["stage"] == "refused"]
    assert refused["reasons"] in (["already_registered"], ["registered_elsewhere", f"home_cell:{_other(refused)}"])
    await alone(town, ends, owner_pool)


async def test_one_person_in_two_cells_is_one_voter_also_where_the_claims_are_away_meanwhile(
    town: Town, owner_pool: OwnerPool
) -> None:
    document, away = number(), {cell: Away(claims) for cell, claims in town.claims.items()}
    kept = dict(town.claims)
    town.claims.update(away)
    try:
        living = [asyncio.create_task(town.proofed(cell, document)) for cell in CELLS]
        async with asyncio.timeout(WITHIN_S):
            while sum(each.asked for each in away.values()) < 2:
                await asyncio.sleep(0.02)
        assert not any(task.done() for task in living)
    finally:
        town.claims.update(kept)
    ends = await asyncio.gather(*living)
    assert sorted(end["stage"] for end in ends) == ["active", "refused"]
    await alone(town, ends, owner_pool)


class Away(Claims):
    """Claims that cannot be reached."""

    def __init__(self, _claims: Any) -> None:
        super().__init__()
        self.is_away = True


def _other(refused: dict[str, Any]) -> str:
    own = refused["registrationId"].split("_")[1]
    return next(cell for cell in CELLS if cell != own)


async def alone(town: Town, ends: list[dict[str, Any]], owner_pool: OwnerPool) -> None:
    """Assert that one of these registrations has an account, and the others left nothing."""
    (active,) = [end for end in ends if end["stage"] == "active"]
    voter_id = (await town.row(active["registrationId"])).voter_id
    refused = [(await town.row(end["registrationId"])).voter_id for end in ends if end is not active]
    held: list[asyncpg.Record] = []
    for cell in CELLS:
        pool = await owner_pool(cell)
        held += await pool.fetch(
            "SELECT holder, settled FROM identity.document_claim WHERE holder = ANY($1)", [voter_id, *refused]
        )
    assert held
    assert {(row["holder"], row["settled"]) for row in held} == {(voter_id, True)}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"challengeToken": "made up"}, 403, "challenge_failed"),
        ({"challengeNonce": "another nonce, another"}, 403, "challenge_failed"),
        ({"deviceEventId": "1700000000000.made1p"}, 422, "device_event_invalid"),
        ({"profile": "rooted"}, 403, "device_refused"),
        ({"profile": "clean_ios"}, 422, "device_event_invalid"),
        ({"mail": "no address"}, 400, "malformed_request"),
    ],
    ids=["no token", "token of another request", "no event", "rooted", "another app", "no address"],
)
async def test_who_shows_no_person_on_a_device_of_their_own_does_not_begin(
    town: Town, change: dict[str, Any], status: int, code: str
) -> None:
    answer = await town.begin(**change)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_device_event_begins_one_registration(town: Town) -> None:
    nonce, answers = secrets.token_hex(16), []
    event = await town.control("fingerprint", "events", profile="clean_browser", linkedId=nonce, readableAfterMs=0)
    for _ in range(2):
        token = await town.control("turnstile", "tokens", action="register", cdata=nonce)
        shown = {"challengeToken": token["token"], "challengeNonce": nonce, "deviceEventId": event["eventId"]}
        answers.append(await town.begin(**shown))
    assert answers[0].status_code == 201, answers[0].text
    assert (answers[1].status_code, answers[1].json()["code"]) == (422, "device_event_invalid")


async def test_a_registration_is_found_by_its_whole_id_alone(town: Town) -> None:
    for wrong in ("r_eu_" + "a" * 26, "r_eu_a", "v_eu_" + "a" * 26, "x"):
        answer = await town.client.get(f"/v1/registrations/{wrong}")
        assert (answer.status_code, answer.json()["code"]) == (404, "registration_not_found")


OF_ITS_PERSON: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "", {}),
    ("POST", "/contact", {"code": "12345678"}),
    ("POST", "/contact/resend", {}),
    ("POST", "/proofing-access", {}),
    ("POST", "/appeal", {}),
    ("DELETE", "", {}),
]


async def test_an_id_without_its_secret_opens_nothing_and_does_not_say_that_it_is_one(town: Town) -> None:
    registration, other = [(await town.begin()).json()["registrationId"] for _ in range(2)]
    right, unknown = town.secrets[registration], "r_eu_" + "a" * 26
    wrong = (town.secrets[other], right[:-1], right.swapcase(), "\u00e9", registration)
    shown: list[dict[str, Any]] = [{}, *({"authorization": f"Bearer {each}".encode("latin-1")} for each in wrong)]
    shown.append({"authorization": f"DPoP {right}".encode()})
    for method, path, body in OF_ITS_PERSON:
        answers = []
        for who, headers in ((unknown, {}), *((registration, each) for each in shown)):
            url, content = f"/v1/registrations/{who}{path}", json.dumps(body).encode() if method == "POST" else b""
            more: dict[str, Any] = {"content-type": "application/json"} if content else {}
            answers.append(await town.client.request(method, url, headers={**headers, **more}, content=content))
        told = [{k: v for k, v in each.json().items() if k != "requestId"} for each in answers]
        assert {each.status_code for each in answers} == {404}
        assert told == [told[0]] * len(answers)
        assert told[0]["code"] == "registration_not_found"
    found = await town.send("GET", registration)
    assert (found.status_code, found.json()["stage"]) == (200, "contact_proof")
    assert right not in found.text


async def test_who_cancels_leaves_no_personal_data(town: Town, owner_pool: OwnerPool) -> None:
    mail = f"{secrets.token_hex(4)}@example.org"
    registration = (await town.begin(mail=mail)).json()["registrationId"]
    voter_id = (await town.row(registration)).voter_id
    pool = await owner_pool("eu")
    async with leaves(pool, "auth DELETE /v1/registrations/{registration_id}", subject=registration):
        answer = await town.send("DELETE", registration)
        assert answer.status_code == 200, answer.text
        await town.at(registration, "cancelled")
    async with asyncio.timeout(WITHIN_S):
        while await pool.fetchval("SELECT count(*) FROM identity.personal WHERE voter_id = $1", voter_id):
            await asyncio.sleep(0.05)
    late = await town.send("POST", registration, "/appeal")
    assert (late.status_code, late.json()["code"]) == (409, "registration_stage")


async def test_a_registration_whose_begin_was_lost_is_begun_later(town: Town) -> None:
    cell = town.cells["us"]
    answer = await town.begin("us")
    registration = answer.json()["registrationId"]
    lost = registration[:-4] + "aaaa"
    voter = (await town.row(registration)).voter_id[:-4] + "aaaa"
    await cell.registrations.begin(lost, voter, "DE")  # as a release did whose registrations have no secret
    policy = registration_policy(town.settings)
    begin = partial(begin_unstarted, cell.registrations, cell.processes, policy, "us", CELLS)
    assert await begin(older_than=_NONE) >= 1
    await town.at(lost, "refused")  # no address was kept for it: nobody to write to


async def signed(town: Town, body: bytes, **headers: str) -> httpx.Response:
    assert town.settings.sumsub is not None
    secret = town.settings.sumsub.webhook_secret.get_secret_value().encode()
    given = {
        "content-type": "application/json",
        "x-payload-digest-alg": "HMAC_SHA256_HEX",
        "x-payload-digest": payload_digest(secret, "HMAC_SHA256_HEX", body),
        **headers,
    }
    return await town.vendor.post("/hooks/v1/webhooks/sumsub", content=body, headers=given)


def event(registration: str, *, ago: timedelta = timedelta(0), **fields: Any) -> bytes:
    """Return a webhook that says that a case is approved, as the vendor would."""
    at = datetime.now(UTC) - ago
    body = {
        "applicantId": "5cb744200a975a67ed1798a4",
        "externalUserId": f"{registration}-1",
        "correlationId": secrets.token_hex(16),
        "type": "applicantReviewed",
        "reviewStatus": "completed",
        "reviewResult": {"reviewAnswer": "GREEN"},
        "createdAtMs": at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
        **fields,
    }
    return json.dumps(body).encode()


async def at_the_provider(town: Town, cell: str = "eu") -> str:
    mail = f"{secrets.token_hex(4)}@example.org"
    registration: str = (await town.begin(cell, mail=mail)).json()["registrationId"]
    await town.prove(registration, mail)
    await town.at_provider(registration)
    return registration


async def stored(owner_pool: OwnerPool, registration: str) -> list[asyncpg.Record]:
    """Return what the inbox has of a registration, but for what the sandbox itself has sent."""
    pool = await owner_pool(registration.split("_")[1])
    query = "SELECT kind, handled_at, body FROM identity.webhook WHERE case_id = $1 AND kind LIKE 'applicantReviewed%'"
    rows: list[asyncpg.Record] = await pool.fetch(query, f"{registration}-1")
    return rows


async def test_a_webhook_that_is_forged_altered_or_late_is_not_even_kept(town: Town, owner_pool: OwnerPool) -> None:
    registration = await at_the_provider(town)
    good = event(registration)
    for body, headers in (
        (good, {"x-payload-digest": "0" * 64}),
        (good, {"x-payload-digest": ""}),
        (good, {"x-payload-digest-alg": "HMAC_SHA1_HEX"}),
        (good, {"x-payload-digest-alg": "none"}),
        (good + b" ", {"x-payload-digest": payload_digest(b"another secret", "HMAC_SHA256_HEX", good)}),
        (event(registration, ago=timedelta(days=3)), {}),
        (b"<html>", {}),
    ):
        answer = await signed(town, body, **headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "webhook_invalid"), headers
    unknown = await town.vendor.post("/hooks/v1/webhooks/nobody", json={})
    assert unknown.status_code == 404
    assert await stored(owner_pool, registration) == []
    assert (await town.row(registration)).stage == "proofing"


async def test_a_webhook_is_a_hint_that_decides_nothing_and_counts_once(town: Town, owner_pool: OwnerPool) -> None:
    registration = await at_the_provider(town)
    body = event(registration)
    answers = await asyncio.gather(*(signed(town, body) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    async with asyncio.timeout(WITHIN_S):
        while not all(row["handled_at"] for row in await stored(owner_pool, registration)):
            await asyncio.sleep(0.05)
    (kept,) = await stored(owner_pool, registration)
    assert kept["body"] is None
    row = await town.row(registration)
    assert row.stage == "proofing"  # the vendor's API says that nothing was handed in
    account = await town.cells["eu"].accounts.get(row.voter_id)
    assert account is not None
    assert account.status is VoterStatus.REGISTERED


async def test_a_webhook_about_nobody_we_know_is_taken_and_forgotten(town: Town, owner_pool: OwnerPool) -> None:
    assert (await signed(town, event("somebody else's"))).status_code == 401  # no id of anybody
    assert (await signed(town, event("user-1"))).status_code == 202
    registration = "r_eu_" + "b" * 26
    assert (await signed(town, event(registration))).status_code == 202
    async with asyncio.timeout(WITHIN_S):
        while not all(row["handled_at"] for row in await stored(owner_pool, registration)):
            await asyncio.sleep(0.05)


async def test_a_webhook_that_comes_before_its_process_waits_for_it(town: Town, owner_pool: OwnerPool) -> None:
    cell = town.cells["us"]
    begun = (await town.begin("us")).json()["registrationId"]
    await town.send("DELETE", begun)
    early = new_registration_id("us")
    await cell.registrations.begin(early, new_voter_id("us"), "DE")  # its process is not there yet
    assert (await signed(town, event(early))).status_code == 202
    assert [row["handled_at"] for row in await stored(owner_pool, early)] == [None]
    delivery = town.deliveries["us"]
    await deliver_waiting(cell.inbox, delivery, _NONE)
    assert [row["handled_at"] for row in await stored(owner_pool, early)] == [None]


async def test_an_approval_that_is_taken_back_suspends_the_voter_after_a_webhook(town: Town) -> None:
    end = await town.proofed("eu", number())
    assert end["stage"] == "active", end
    registration = end["registrationId"]
    await town.take_back(registration)
    async with asyncio.timeout(WITHIN_S):
        while (row := await town.row(registration)).stage != "rejected":
            await asyncio.sleep(0.05)
    assert row.reasons == ("reversed", "forgery")
    account = await town.cells["eu"].accounts.get(row.voter_id)
    assert account is not None
    assert account.status is VoterStatus.SUSPENDED
