"""The same cases against the sandbox and, with credentials in the environment, against the vendor."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.errors import DomainError, ErrorCode
from domain.ids import new_registration_id
from domain.proofing import IdentityProofing, ProofingState
from domain.tokens import Assurance
from tests.integrations.identity.conftest import Sumsub

UNKNOWN = "5b594ade0a975a36c9349e66"


async def code_of(call: object) -> ErrorCode:
    with pytest.raises(DomainError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code


async def test_a_case_is_opened_once(sumsub: Sumsub, case_id: str) -> None:
    proofing: IdentityProofing = sumsub.proofing
    reference = await proofing.open_case(case_id)
    assert await proofing.open_case(case_id) == reference
    assert await proofing.open_case(case_id.replace("-1", "-2")) != reference
    assert (await proofing.read_case(reference)).state is ProofingState.WAITING_FOR_PERSON
    assert proofing.assurance is Assurance.HIGH


async def test_the_person_gets_an_access_of_its_own_whichever_comes_first(sumsub: Sumsub, case_id: str) -> None:
    before = datetime.now(UTC)
    access = await sumsub.proofing.client_access(case_id)
    assert access.token not in repr(access)
    assert (
        timedelta()
        <= access.expires_at - before - timedelta(seconds=sumsub.settings.access_ttl_s)
        < timedelta(seconds=60)
    )
    reference = await sumsub.proofing.open_case(case_id)
    assert (await sumsub.proofing.client_access(case_id)).token != access.token
    assert await sumsub.proofing.open_case(case_id) == reference


async def test_odd_ids_stay_whole(sumsub: Sumsub) -> None:
    odd = f"{new_registration_id('eu')}|a/b c;=+%2F"
    reference = await sumsub.proofing.open_case(odd)
    assert await sumsub.proofing.open_case(odd) == reference


async def test_a_verdict_is_read_and_a_later_one_replaces_it(sumsub: Sumsub, case_id: str) -> None:
    reference = await sumsub.proofing.open_case(case_id)
    await sumsub.simulate(reference, "RED", "LOW_QUALITY", kind="RETRY", comment="Please take another photo")
    finding = await sumsub.proofing.read_case(reference)
    assert (finding.state, finding.reasons) == (ProofingState.RETRY, ("low_quality",))
    assert finding.advice == "Please take another photo"
    await sumsub.proofing.allow_retry(reference)
    await sumsub.proofing.allow_retry(reference)
    await sumsub.simulate(reference, "RED", "FORGERY", kind="FINAL")
    finding = await sumsub.proofing.read_case(reference)
    assert (finding.state, finding.reasons) == (ProofingState.REJECTED, ("forgery",))


async def test_an_approval_without_a_document_decides_nothing(sumsub: Sumsub, case_id: str) -> None:
    reference = await sumsub.proofing.open_case(case_id)
    await sumsub.simulate(reference, "GREEN")
    assert await code_of(sumsub.proofing.read_case(reference)) is ErrorCode.PROOFING_UNAVAILABLE


async def test_nobody_is_gone(sumsub: Sumsub) -> None:
    assert (await sumsub.proofing.read_case(UNKNOWN)).state is ProofingState.GONE
    assert await sumsub.proofing.erase(UNKNOWN)


async def test_erasure_is_asked_for_and_confirmed_when_there_is_nothing_left(sumsub: Sumsub, case_id: str) -> None:
    reference = await sumsub.proofing.open_case(case_id)
    assert not await sumsub.proofing.erase(reference)
    assert (await sumsub.proofing.read_case(reference)).state is ProofingState.GONE
    assert await sumsub.proofing.erase(reference)  # nothing was ever handed in
    assert await sumsub.proofing.erase(reference)


@pytest.mark.parametrize(
    "changes",
    [{"secret_key": "wrong"}, {"app_token": "sbx:no.such"}, {"app_token": "nonsense"}, {"level": "no such level"}],
    ids="-".join,
)
async def test_our_own_mistakes_are_refused_for_good(sumsub: Sumsub, case_id: str, changes: dict[str, Any]) -> None:
    assert await code_of(sumsub.with_(**changes).open_case(case_id)) is ErrorCode.PROOFING_REFUSED


@pytest.mark.parametrize("skew_s", [-120, 120])
async def test_a_wrong_clock_is_no_refusal(sumsub: Sumsub, case_id: str, skew_s: int) -> None:
    skewed = sumsub.with_(now=lambda: time.time() + skew_s)
    with pytest.raises(DomainError, match="clock") as caught:
        await skewed.open_case(case_id)
    assert caught.value.code is ErrorCode.PROOFING_UNAVAILABLE
    await sumsub.with_(now=lambda: time.time() + skew_s / 4).open_case(case_id)
