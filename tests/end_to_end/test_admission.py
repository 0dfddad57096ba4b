"""Admission over the running services: who is refused, by which code, and that one person is one vote for ever."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.eligibility import VoterStatus
from domain.ids import new_voter_id
from domain.tokens import Assurance, Role
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.digests import digest
from integrations.keys.dpop_keys import ProofKey
from integrations.keys.file_kms import FileKms
from tests.end_to_end.house import REGION, House, nullifier_of

REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, str]]] = {
    # name: the voter, the survey, the answer
    "unverified": ({"assurance": Assurance.LOW}, {}, (403, "voter_not_verified")),
    "never proofed": ({"assurance": Assurance.NONE}, {}, (403, "voter_not_verified")),
    "only registered": ({"status": VoterStatus.REGISTERED}, {}, (403, "voter_not_active")),
    "suspended": ({"status": VoterStatus.SUSPENDED}, {}, (403, "voter_not_active")),
    "closed": ({"status": VoterStatus.CLOSED}, {}, (403, "voter_not_active")),
    "of another region": ({"region": "elsewhere"}, {}, (403, "region_not_eligible")),
    "under age": ({"age_class": 16}, {"minimumAge": 18}, (403, "age_not_eligible")),
    "a child": ({"age_class": 0}, {"minimumAge": 16}, (403, "age_not_eligible")),
    "not on the roll": ({}, {"rollRequired": True}, (403, "not_on_roll")),
}


@pytest.mark.parametrize("who", REFUSED)
async def test_whoever_may_not_vote_gets_no_token(house: House, who: str) -> None:
    voter, survey_fields, (status, code) = REFUSED[who]
    survey = await house.open_survey(who, **survey_fields)
    _, access = await house.voter(**voter)

    answer = await house.ask_to_vote(survey.id, access)

    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert "votingToken" not in answer.json()


async def test_tokens_that_are_not_a_voters_own_and_present_one_get_nothing(house: House) -> None:
    survey = await house.open_survey()
    voter_id, good = await house.voter()
    _, foreign = await house.voter("us")
    old = AccessTokens(_keys(house), now=(datetime.now(UTC) - timedelta(hours=1)).timestamp)
    await old.refresh()
    head, body, _ = good.split(".")
    cases = [
        ("staff", house.access.staff("u_tester", [Role.ADMIN]), "token_invalid"),
        ("a voting token", house.token(survey), "token_invalid"),
        ("expired", old.voter(voter_id, "eu", REGION), "token_expired"),
        ("another's signature", f"{head}.{body}.{foreign.split('.')[2]}", "token_invalid"),
        ("another's claims", f"{head}.{foreign.split('.')[1]}.{good.split('.')[2]}", "token_invalid"),
        ("no algorithm", f"eyJhbGciOiJub25lIn0.{body}.", "token_invalid"),
        ("another cell than its voter's", house.access.voter(voter_id, "us", REGION), "token_invalid"),
        ("of nobody", house.access.voter(new_voter_id("eu"), "eu", REGION), "voter_not_found"),
        ("bound", house.access.voter(voter_id, "eu", REGION, jkt=ProofKey.generate().jkt), "proof_invalid"),
        ("another device", house.access.voter(voter_id, "eu", REGION, device=digest(b"a phone")), "device_mismatch"),
        ("another network", house.access.voter(voter_id, "eu", REGION, network="203.0.113.0/24"), "step_up_required"),
        ("none", "", "unauthenticated"),
    ]

    found = []
    for name, token, _ in cases:
        answer = await house.ask_to_vote(survey.id, token)
        assert answer.status_code in {401, 403}, (name, answer.text)
        assert "votingToken" not in answer.json()
        found.append((name, answer.json()["code"]))

    assert found == [(name, code) for name, _, code in cases]
    assert (await house.ask_to_vote(survey.id, good)).status_code == 201


async def test_a_token_is_for_one_survey_and_a_staff_or_access_token_casts_nothing(house: House) -> None:
    survey, other = await house.open_survey(), await house.open_survey()
    _, access = await house.voter()
    token = (await house.ask_to_vote(survey.id, access)).json()["votingToken"]

    elsewhere = await house.cast(other, token, other.ballot())
    by_access = await house.cast(survey, access)
    by_staff = await house.cast(survey, house.access.staff("u_tester", [Role.ADMIN]))

    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "forbidden"), elsewhere.text
    assert (by_access.status_code, by_access.json()["code"]) == (401, "token_invalid")
    assert (by_staff.status_code, by_staff.json()["code"]) == (401, "token_invalid")
    assert await house.counts(survey) == (0, 0, 0)
    assert await house.counts(other) == (0, 0, 0)


async def test_somebody_else_cannot_read_a_submission(house: House) -> None:
    survey = await house.open_survey()
    mine, other = house.token(survey), house.token(survey)
    submission = (await house.cast(survey, mine)).json()["submissionId"]

    def ask(token: str) -> Any:
        return house.clients["votes"].get(f"/v1/submissions/{submission}", headers={"authorization": f"Bearer {token}"})

    assert (await ask(mine)).json()["status"] == "confirmed"
    refused = await ask(other)
    assert (refused.status_code, refused.json()["code"]) == (404, "submission_not_found")
    assert "receipt" not in refused.text


async def test_a_person_who_deletes_the_account_and_registers_again_votes_once(house: House) -> None:
    survey = await house.open_survey()
    first, access = await house.voter()
    voted = (await house.ask_to_vote(survey.id, access)).json()["votingToken"]
    assert (await house.cast(survey, voted)).status_code == 201

    second = new_voter_id("eu")
    await house.owners["eu"].execute("UPDATE identity.voter SET status = 'closed' WHERE voter_id = $1", first)
    await house.owners["eu"].execute(
        "INSERT INTO identity.voter (voter_id, person_id, status, assurance, region, age_class) "
        "SELECT $2, person_id, 'active', 'substantial', region, 18 FROM identity.voter WHERE voter_id = $1",
        first,
        second,
    )

    closed = await house.ask_to_vote(survey.id, access)
    assert (closed.status_code, closed.json()["code"]) == (403, "voter_not_active")
    again = await house.ask_to_vote(survey.id, house.access.voter(second, "eu", REGION))
    assert again.status_code == 201, again.text
    token = again.json()["votingToken"]
    assert nullifier_of(token) == nullifier_of(voted)
    refused = await house.cast(survey, token, survey.ballot(1), key=secrets.token_hex(8))
    assert (refused.status_code, refused.json()["code"]) == (409, "already_voted")
    assert await house.counts(survey) == (1, 1, 1)


async def test_nobody_is_admitted_to_what_is_closed_or_not_there(house: House) -> None:
    survey = await house.open_survey()
    unpublished = await house.draft_survey("A draft")
    _, access = await house.voter()
    held = (await house.ask_to_vote(survey.id, access)).json()["votingToken"]
    await house.finish(survey)

    late = await house.cast(survey, held)
    assert (late.status_code, late.json()["code"]) == (409, "survey_closed"), late.text
    for survey_id in (unpublished["id"], "s_aaaaaaaaaaaaaaaa", "nonsense"):
        answer = await house.ask_to_vote(survey_id, access)
        assert (answer.status_code, answer.json()["code"]) == (404, "survey_not_found")


def _keys(house: House) -> FileKms:
    return FileKms(house.state.keys_folder, frozenset({"access-token", "staff-token"}))
