"""The second provider behind the port: no biometrics, another way to sign, other words."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from domain.errors import DomainError, ErrorCode
from domain.proofing import Document, IdentityProofing, ProofingState
from domain.tokens import Assurance
from integrations.identity.letters.client import LettersProofing
from integrations.vendor_http import VendorClient
from integrations.vendor_settings import LettersSettings
from tests.integrations.identity.conftest import WITHIN_S, Control, World


@pytest.fixture
def control(letters_client: VendorClient) -> Control:
    return Control(letters_client)


class Person:
    """A person's client, which has an access token and nothing else."""

    def __init__(self, client: VendorClient, token: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"}

    async def enter(self, number: str, **more: Any) -> int:
        data = {"country": "DEU", "number": number, "bornOn": "1990-02-03", "name": "Ada Lovelace", "address": "A 1"}
        answer = await self._client.post("/v1/person/document", json={**data, **more}, headers=self._headers)
        return answer.status_code

    async def type_code(self, code: str) -> int:
        return (await self._client.post("/v1/person/code", json={"code": code}, headers=self._headers)).status_code


@pytest.fixture
def number() -> str:
    return secrets.token_hex(5).upper()


async def person_of(letters: LettersProofing, client: VendorClient, case_id: str) -> Person:
    return Person(client, (await letters.client_access(case_id)).token)


def with_(settings: LettersSettings, **changes: Any) -> LettersSettings:
    return LettersSettings(**{**settings.model_dump(), **changes})


async def test_a_person_is_approved_by_document_and_letter(
    letters: LettersProofing, letters_client: VendorClient, control: Control, case_id: str, number: str
) -> None:
    proofing: IdentityProofing = letters
    assert proofing.assurance is Assurance.SUBSTANTIAL
    reference = await proofing.open_case(case_id)
    person = await person_of(letters, letters_client, case_id)
    assert (await proofing.read_case(reference)).state is ProofingState.WAITING_FOR_PERSON
    assert await person.enter(number) == 200
    waiting = await proofing.read_case(reference)
    assert (waiting.state, waiting.document) == (ProofingState.WAITING_FOR_PERSON, None)
    (letter,) = await control("GET", f"/letters/{case_id}")
    assert await person.type_code(letter["code"]) == 200
    finding = await proofing.read_case(reference)
    assert finding.state is ProofingState.APPROVED
    assert (finding.document, finding.born_on) == (Document("DEU", "id_card", number), date(1990, 2, 3))
    assert number not in repr(finding)
    assert await person.type_code(letter["code"]) == 409


async def test_a_case_is_opened_once_whoever_asks_at_once(letters: LettersProofing, case_id: str) -> None:
    references = await asyncio.gather(*(letters.open_case(case_id) for _ in range(5)))
    assert len(set(references)) == 1
    before = datetime.now(UTC)
    access = await letters.client_access(case_id)
    assert access.token not in repr(access)
    assert timedelta(seconds=1800) <= access.expires_at - before < timedelta(seconds=1800 + WITHIN_S)


async def test_the_register_decides_what_is_asked_again_and_what_is_refused(
    letters: LettersProofing, letters_client: VendorClient, control: Control, case_id: str, number: str
) -> None:
    reference = await letters.open_case(case_id)
    person = await person_of(letters, letters_client, case_id)
    wanted: list[tuple[dict[str, object], ProofingState, str]] = [
        ({"known": False}, ProofingState.RETRY, "not_in_register"),
        ({"bornOn": "1990-02-04"}, ProofingState.RETRY, "data_mismatch"),
        ({"revoked": True}, ProofingState.REJECTED, "document_revoked"),
    ]
    for attempt, (entry, state, reason) in enumerate(wanted, start=1):
        await control("POST", "/register", country="DEU", number=number, **entry)
        assert await person.enter(number) == 200
        finding = await letters.read_case(reference)
        assert (finding.state, finding.reasons, finding.attempt) == (state, (reason,), attempt)
        assert number not in finding.advice
        if state is ProofingState.RETRY:
            assert finding.advice
            await letters.allow_retry(reference)
            await letters.allow_retry(reference)
            assert (await letters.read_case(reference)).state is ProofingState.WAITING_FOR_PERSON
    with pytest.raises(DomainError) as caught:
        await letters.allow_retry(reference)
    assert caught.value.code is ErrorCode.PROOFING_REFUSED


async def test_a_code_can_be_tried_three_times(
    letters: LettersProofing, letters_client: VendorClient, control: Control, case_id: str, number: str
) -> None:
    reference = await letters.open_case(case_id)
    person = await person_of(letters, letters_client, case_id)
    await person.enter(number)
    assert [await person.type_code("wrong") for _ in range(4)] == [422, 422, 422, 409]
    assert (await letters.read_case(reference)).reasons == ("code_wrong",)
    await control("POST", f"/cases/{case_id}/failing", state="checking")
    assert (await letters.read_case(reference)).state is ProofingState.IN_REVIEW


async def test_an_access_is_of_one_case_and_expires(
    world: World, letters: LettersProofing, letters_client: VendorClient, case_id: str, number: str
) -> None:
    reference = await letters.open_case(case_id)
    key = {"authorization": f"Bearer {world.letters.api_key.get_secret_value()}"}
    answer = await letters_client.post(f"/v1/cases/{reference}/access", json={"ttlSeconds": 0}, headers=key)
    assert await Person(letters_client, answer.json()["token"]).enter(number) == 401
    assert await Person(letters_client, "nobody").enter(number) == 401
    person = await person_of(letters, letters_client, case_id)
    assert await person.enter("") == 422
    assert await letters.erase(reference)
    assert await person.enter(number) == 401


async def test_erasure_is_done_at_once(letters: LettersProofing, case_id: str) -> None:
    reference = await letters.open_case(case_id)
    assert await letters.erase(reference)
    assert await letters.erase(reference)
    assert (await letters.read_case(reference)).state is ProofingState.GONE


async def test_a_wrong_key_is_refused_for_good(world: World, letters_client: VendorClient, case_id: str) -> None:
    wrong = LettersProofing(letters_client, with_(world.letters, api_key="wrong"))
    with pytest.raises(DomainError) as caught:
        await wrong.open_case(case_id)
    assert caught.value.code is ErrorCode.PROOFING_REFUSED
    assert case_id not in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 429, "retryAfterS": 3},
        {"kind": "drop"},
        {"kind": "never"},
        {"kind": "html"},
        {"kind": "garbage"},
        {"kind": "huge"},
        {"kind": "truncated"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
async def test_every_call_bears_every_fault(
    world: World, letters: LettersProofing, letters_client: VendorClient, case_id: str, fault: dict[str, Any]
) -> None:
    timeout_s = 0.15 if fault["kind"] == "never" else WITHIN_S
    proofing = LettersProofing(letters_client, with_(world.letters, timeout_s=timeout_s))
    reference = await letters.open_case(case_id)
    control = Control(letters_client)
    await control("POST", f"/cases/{case_id}/failing")
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "open": lambda: proofing.open_case(case_id),
        "access": lambda: proofing.client_access(case_id),
        "read": lambda: proofing.read_case(reference),
        "retry": lambda: proofing.allow_retry(reference),
        "erase": lambda: proofing.erase(reference),
    }
    for name, call in calls.items():
        if (fault["kind"], name) == ("truncated", "erase"):
            continue  # an empty body is whole
        await control("POST", "/faults", **fault)
        await unavailable(call(), fault.get("retryAfterS"))
        await control.end_fault(fault)
    assert await letters.open_case(case_id) == reference


async def unavailable(call: Awaitable[object], retry_after_s: int | None) -> None:
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(DomainError) as caught:
            await call
    assert caught.value.code is ErrorCode.PROOFING_UNAVAILABLE
    assert caught.value.retry_after_s == retry_after_s
