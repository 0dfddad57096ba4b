"""Asking for a voting token over HTTP: who gets one, what it says, and each refusal with its code."""

import asyncio
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.accounts import KeyedHash
from domain.eligibility import VoterStatus
from domain.ids import new_session_id, new_survey_id, new_voter_id
from domain.sessions import EndReason, LoginMethod, NewSession, new_refresh_token
from domain.tokens import LIFETIME_S, Assurance, RiskBand, Role
from integrations.keys import base64url
from integrations.keys.digests import digest
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.keys.evidence import EvidenceVerifier
from integrations.keys.purposes import VOTING_TOKEN
from integrations.keys.signing import VerificationKeys
from integrations.keys.tokens import VotingTokenVerifier
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.device_sightings import PostgresDeviceSightings
from integrations.postgres.roles import IDENTITY
from integrations.postgres.sessions import PostgresSessions
from tests.api.eligibility.conftest import PUBLIC_URL, Eligibility, eligibility_service, payload_of
from tests.conftest import OwnerPool, SettingsFor
from tests.identity_world import IdentityWorld


async def verifier_of(world: IdentityWorld) -> VotingTokenVerifier:
    held = VerificationKeys(world.keys, VOTING_TOKEN)
    await held.refresh()
    return VotingTokenVerifier(held)


async def test_verified_voter_gets_a_voting_token(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id, voter = await identity_world.survey(), await identity_world.voter(region="FR")
    answer = await eligibility.ask(survey_id, identity_world.token(voter))
    assert answer.status_code == 201, answer.text
    assert set(answer.json()) == {"votingToken", "expiresAt"}
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()["votingToken"]
    claims = (await verifier_of(identity_world)).verify(token.encode(), time.time())
    assert (claims.survey_id, claims.cell, claims.region, claims.jkt) == (survey_id, "eu", "FR", None)
    assert len(claims.nullifier) == 32
    expires = datetime.fromisoformat(answer.json()["expiresAt"])
    assert expires == datetime.fromtimestamp(claims.expires_at, UTC)
    assert claims.expires_at - claims.issued_at == LIFETIME_S


async def test_token_carries_evidence_of_admission(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id, voter = await identity_world.survey(), await identity_world.voter()
    token = (await eligibility.ask(survey_id, identity_world.token(voter))).json()["votingToken"]
    claims = (await verifier_of(identity_world)).verify(token.encode(), time.time())
    is_evidence = await EvidenceVerifier(identity_world.keys).check_for("eu")
    assert is_evidence(survey_id, claims.nullifier, "DE", claims.evidence)
    assert not is_evidence(survey_id, bytes(32), "DE", claims.evidence)


async def test_token_names_nobody(
    eligibility: Eligibility, identity_world: IdentityWorld, owner_pool: OwnerPool
) -> None:
    survey_id, voter = await identity_world.survey(), await identity_world.voter()
    access = identity_world.token(voter, device=digest(b"phone-1"))
    answer = await eligibility.ask(survey_id, access, X_Device_Id="phone-1")
    said = payload_of(answer.json()["votingToken"])
    person = await (await owner_pool("eu")).fetchval("SELECT person_id FROM identity.voter WHERE voter_id = $1", voter)
    named = payload_of(access)
    for secret in (voter, person, digest(b"phone-1"), "phone-1", named["sid"], named["jti"]):
        assert secret not in str(said)
    assert said["device"]


async def test_asking_again_gives_the_same_nullifier_and_evidence(
    eligibility: Eligibility, identity_world: IdentityWorld
) -> None:
    survey_id, voter = await identity_world.survey(), await identity_world.voter()
    access = identity_world.token(voter)
    answers = await asyncio.gather(*(eligibility.ask(survey_id, access) for _ in range(20)))
    said = [payload_of(answer.json()["votingToken"]) for answer in answers]
    assert len({(one["nullifier"], one["evidence"]) for one in said}) == 1


async def test_nullifiers_differ_by_person_and_by_survey(
    eligibility: Eligibility, identity_world: IdentityWorld
) -> None:
    surveys = [await identity_world.survey(), await identity_world.survey()]
    voters = [await identity_world.voter() for _ in range(3)]
    found = set()
    for survey_id in surveys:
        for voter in voters:
            answer = await eligibility.ask(survey_id, identity_world.token(voter))
            found.add(payload_of(answer.json()["votingToken"])["nullifier"])
    assert len(found) == 6


async def test_who_deletes_the_account_and_registers_again_is_the_same_person(
    eligibility: Eligibility, identity_world: IdentityWorld, owner_pool: OwnerPool
) -> None:
    survey_id, first = await identity_world.survey(), await identity_world.voter()
    before = payload_of((await eligibility.ask(survey_id, identity_world.token(first))).json()["votingToken"])
    await PostgresAccounts(identity_world.identity["eu"], "eu").set_status(first, VoterStatus.CLOSED, "test")
    again = new_voter_id("eu")
    await (await owner_pool("eu")).execute(
        "INSERT INTO identity.voter (voter_id, person_id, status, assurance, region)"
        " SELECT $2, person_id, 'active', 'high', region FROM identity.voter WHERE voter_id = $1",
        first,
        again,
    )
    after = payload_of((await eligibility.ask(survey_id, identity_world.token(again))).json()["votingToken"])
    assert after["nullifier"] == before["nullifier"]
    assert await eligibility.refusal(survey_id, identity_world.token(first)) == (403, "voter_not_active")


async def test_both_cells_are_served_each_to_its_own(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id = await identity_world.survey("eu", "us")
    cells = {}
    for cell in ("eu", "us"):
        voter = await identity_world.voter(cell)
        answer = await eligibility.ask(survey_id, identity_world.token(voter, cell))
        cells[cell] = payload_of(answer.json()["votingToken"])["cell"]
    assert cells == {"eu": "eu", "us": "us"}


@pytest.mark.parametrize(
    ("voter", "survey", "refusal"),
    [
        ({"status": VoterStatus.SUSPENDED}, {}, (403, "voter_not_active")),
        ({"status": VoterStatus.REGISTERED}, {}, (403, "voter_not_active")),
        ({"assurance": Assurance.LOW}, {}, (403, "voter_not_verified")),
        ({"assurance": Assurance.NONE}, {}, (403, "voter_not_verified")),
        ({"region": "IT"}, {"regions": ["DE", "FR"]}, (403, "region_not_eligible")),
        ({"age_class": 16}, {"minimum_age": 18}, (403, "age_not_eligible")),
        ({"age_class": 0}, {"minimum_age": 16}, (403, "age_not_eligible")),
        ({}, {"roll_required": True}, (403, "not_on_roll")),
        ({}, {"finish_at": datetime.now(UTC) - timedelta(seconds=1)}, (409, "survey_closed")),
    ],
)
async def test_who_may_not_vote_is_told_why(
    eligibility: Eligibility,
    identity_world: IdentityWorld,
    voter: dict[str, Any],
    survey: dict[str, Any],
    refusal: tuple[int, str],
) -> None:
    survey_id = await identity_world.survey(**survey)
    voter_id = await identity_world.voter(**voter)
    for _ in range(2):
        assert await eligibility.refusal(survey_id, identity_world.token(voter_id)) == refusal


async def test_who_is_on_the_roll_gets_a_token(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id, voter = await identity_world.survey(roll_required=True), await identity_world.voter()
    await identity_world.enrol(survey_id, voter)
    await identity_world.enrol(survey_id, voter)
    assert (await eligibility.ask(survey_id, identity_world.token(voter))).status_code == 201
    other = await identity_world.survey(roll_required=True)
    assert await eligibility.refusal(other, identity_world.token(voter)) == (403, "not_on_roll")


async def test_voter_who_is_not_in_the_directory_is_refused(
    eligibility: Eligibility, identity_world: IdentityWorld
) -> None:
    survey_id = await identity_world.survey()
    token = identity_world.token(new_voter_id("eu"))
    assert await eligibility.refusal(survey_id, token) == (403, "voter_not_found")


@pytest.mark.parametrize(
    "survey_id", ["s_nobodyhasthisone", "1", "s_", "%00", "s_%2e%2e%2faaaaaaaaaaaaa", "s_AAAAAAAAAAAAAAAA"]
)
async def test_survey_that_is_not_here_is_not_found(
    eligibility: Eligibility, identity_world: IdentityWorld, survey_id: str
) -> None:
    token = identity_world.token(await identity_world.voter())
    for _ in range(2):
        status, code = await eligibility.refusal(survey_id, token)
        assert (status, code) in {(404, "survey_not_found"), (404, "not_found"), (400, "malformed_request")}


async def test_survey_that_is_installed_now_is_found_within_a_second_or_so(
    eligibility: Eligibility, identity_world: IdentityWorld
) -> None:
    token = identity_world.token(await identity_world.voter())
    survey_id = await identity_world.survey("us")
    assert await eligibility.refusal(survey_id, token) == (404, "survey_not_found")
    await identity_world.surveys["eu"].execute(
        "INSERT INTO identity.survey (survey_id, wrapped_eligibility_key) VALUES ($1, $2)",
        survey_id,
        (await identity_world.keys.generate_data_key("kek/eligibility", survey_id)).wrapped,
    )
    async with asyncio.timeout(5):
        while (await eligibility.ask(survey_id, token)).status_code != 201:
            await asyncio.sleep(0.2)


async def test_key_of_another_survey_does_not_open(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id = new_survey_id()
    wrong = (await identity_world.keys.generate_data_key("kek/eligibility", new_survey_id())).wrapped
    await identity_world.surveys["eu"].execute(
        "INSERT INTO identity.survey (survey_id, wrapped_eligibility_key) VALUES ($1, $2)", survey_id, wrong
    )
    token = identity_world.token(await identity_world.voter())
    assert await eligibility.refusal(survey_id, token) == (503, "key_unavailable")


async def test_staff_get_no_voting_token(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id, voter = await identity_world.survey(), await identity_world.voter()
    for subject in ("u_admin", voter):
        staff = identity_world.tokens.staff(subject, list(Role))
        assert await eligibility.refusal(survey_id, staff) == (401, "token_invalid")


async def test_voting_token_is_no_access_token(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id, voter = await identity_world.survey(), await identity_world.voter()
    token = (await eligibility.ask(survey_id, identity_world.token(voter))).json()["votingToken"]
    assert await eligibility.refusal(survey_id, token) == (401, "token_invalid")


async def test_without_a_token_nobody_is_admitted(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id = await identity_world.survey()
    path = f"/v1/surveys/{survey_id}/voting-token"
    for headers in ({}, {"authorization": "Basic dTpw"}, {"authorization": "Bearer"}, {"authorization": ""}):
        answer = await eligibility.client.post(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert "Bearer" in answer.headers["www-authenticate"]


async def test_home_cell_must_be_served_here_and_match_the_voter(
    eligibility: Eligibility, identity_world: IdentityWorld
) -> None:
    survey_id, voter = await identity_world.survey(), await identity_world.voter()
    assert await eligibility.refusal(survey_id, identity_world.token(new_voter_id("ap"), "ap")) == (421, "wrong_cell")
    assert await eligibility.refusal(survey_id, identity_world.token(voter, "us")) == (401, "token_invalid")
    assert await eligibility.refusal(survey_id, identity_world.token("u_admin", "eu")) == (401, "token_invalid")


async def test_another_device_is_refused(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id = await identity_world.survey()
    token = identity_world.token(await identity_world.voter(), device=digest(b"phone-1"))
    assert await eligibility.refusal(survey_id, token) == (401, "device_mismatch")
    assert await eligibility.refusal(survey_id, token, X_Device_Id="phone-2") == (401, "device_mismatch")
    assert (await eligibility.ask(survey_id, token, X_Device_Id="phone-1")).status_code == 201


async def test_another_network_needs_a_step_up(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id, voter = await identity_world.survey(), await identity_world.voter()
    elsewhere = identity_world.token(voter, network="192.0.2.0/24")
    assert await eligibility.refusal(survey_id, elsewhere) == (403, "step_up_required")
    here = identity_world.token(voter, network="127.0.0.0/24")
    assert (await eligibility.ask(survey_id, here)).status_code == 201


async def test_risky_session_needs_a_step_up(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id, voter = await identity_world.survey(), await identity_world.voter()
    token = identity_world.token(voter, risk=RiskBand.HIGH)
    assert await eligibility.refusal(survey_id, token) == (403, "step_up_required")


async def test_a_rooted_device_of_the_session_is_refused_until_it_is_seen_otherwise(
    eligibility: Eligibility, identity_world: IdentityWorld
) -> None:
    survey_id, voter, key = await identity_world.survey(), await identity_world.voter(), ProofKey.generate()
    phone, tablet = (KeyedHash("lookup/1", secrets.token_bytes(32)) for _ in range(2))
    sightings, now = PostgresDeviceSightings(identity_world.identity["eu"]), datetime.now(UTC)
    url = f"{PUBLIC_URL}/v1/surveys/{survey_id}/voting-token"

    async def ask(device: KeyedHash) -> tuple[int, str]:
        token = identity_world.token(voter, jkt=key.jkt, device=base64url.encode_text(device.digest))
        proof = make_proof(key, "POST", url, time.time(), token=token)
        answer = await eligibility.ask(survey_id, token, "DPoP", DPoP=proof)
        return answer.status_code, answer.json().get("code", "")

    await sightings.note([phone], voter, now - timedelta(hours=1))
    await sightings.note([tablet], voter, now, ["tor", "vpn"])  # raises the risk, and is no reason alone
    assert [await ask(device) for device in (phone, tablet)] == [(201, "")] * 2
    await sightings.note([phone], voter, now, ["rooted"])
    assert [await ask(device) for device in (phone, tablet)] == [(403, "device_refused"), (201, "")]
    await sightings.note([phone], voter, now + timedelta(seconds=1))
    assert await ask(phone) == (201, "")


async def test_a_device_that_was_not_seen_for_a_day_needs_a_step_up(
    eligibility: Eligibility, identity_world: IdentityWorld
) -> None:
    survey_id, voter, key = await identity_world.survey(), await identity_world.voter(), ProofKey.generate()
    phone, counted = KeyedHash("lookup/1", secrets.token_bytes(32)), 'risk_reasons_total{reason="device_unseen"}'
    sightings, now = PostgresDeviceSightings(identity_world.identity["eu"]), datetime.now(UTC)
    url, before = f"{PUBLIC_URL}/v1/surveys/{survey_id}/voting-token", eligibility.metric(counted)

    async def ask(device: str = base64url.encode_text(phone.digest)) -> tuple[int, str]:
        token = identity_world.token(voter, jkt=key.jkt, device=device)
        proof = make_proof(key, "POST", url, time.time(), token=token)
        answer = await eligibility.ask(survey_id, token, "DPoP", DPoP=proof)
        return answer.status_code, answer.json().get("code", "")

    assert await ask("") == (201, "")
    assert await ask() == (403, "step_up_required")  # this voter was never seen on it
    await sightings.note([phone], voter, now - timedelta(hours=25))
    assert await ask() == (403, "step_up_required")
    assert eligibility.metric(counted) == before + 2
    await sightings.note([phone], voter, now - timedelta(hours=23))
    assert await ask() == (201, "")


class TestBoundTokens:
    """DPoP where the access token is bound."""

    @pytest.fixture(params=["EdDSA", "ES256"])
    def key(self, request: pytest.FixtureRequest) -> ProofKey:
        return ProofKey.generate(algorithm=request.param)

    async def test_bound_token_needs_its_proof_and_passes_the_binding_on(
        self, eligibility: Eligibility, identity_world: IdentityWorld, key: ProofKey
    ) -> None:
        survey_id = await identity_world.survey()
        token = identity_world.token(await identity_world.voter(), jkt=key.jkt)
        url = f"{PUBLIC_URL}/v1/surveys/{survey_id}/voting-token"

        def proof(**changes: str) -> str:
            asked = {"method": "POST", "url": url, "token": token, **changes}
            return make_proof(key, asked["method"], asked["url"], time.time(), token=asked["token"])

        good = proof()
        answer = await eligibility.ask(survey_id, token, "DPoP", DPoP=good)
        assert answer.status_code == 201, answer.text
        assert payload_of(answer.json()["votingToken"])["cnf"] == {"jkt": key.jkt}
        for scheme, sent in (
            ("DPoP", good),
            ("DPoP", proof(method="PUT")),
            ("DPoP", proof(url=url.replace("eligibility.test", "votes.test"))),
            ("DPoP", proof(url=url.replace(survey_id, new_survey_id()))),
            ("DPoP", proof(token="another")),
            ("DPoP", make_proof(ProofKey.generate(), "POST", url, time.time(), token=token)),
            ("DPoP", make_proof(key, "POST", url, time.time(), token=token, body=b"{}")),
            ("DPoP", make_proof(key, "POST", url, time.time() - 120, token=token)),
            ("Bearer", proof()),
        ):
            refused = await eligibility.ask(survey_id, token, scheme, DPoP=sent)
            assert (refused.status_code, refused.json()["code"]) == (401, "proof_invalid")
            assert "DPoP" in refused.headers["www-authenticate"]
        for scheme in ("DPoP", "Bearer"):
            refused = await eligibility.ask(survey_id, token, scheme)
            assert (refused.status_code, refused.json()["code"]) == (401, "proof_invalid")

    async def test_a_proof_that_another_process_has_seen_is_refused(
        self, eligibility: Eligibility, identity_world: IdentityWorld, settings_for: SettingsFor, key: ProofKey
    ) -> None:
        survey_id = await identity_world.survey()
        token = identity_world.token(await identity_world.voter(), jkt=key.jkt)
        url = f"{PUBLIC_URL}/v1/surveys/{survey_id}/voting-token"
        used, fresh = (make_proof(key, "POST", url, time.time(), token=token) for _ in range(2))
        assert (await eligibility.ask(survey_id, token, "DPoP", DPoP=used)).status_code == 201
        async with eligibility_service(settings_for(IDENTITY, public_url=PUBLIC_URL)) as another:
            refused = await another.ask(survey_id, token, "DPoP", DPoP=used)
            assert (refused.status_code, refused.json()["code"]) == (401, "proof_invalid")
            assert (await another.ask(survey_id, token, "DPoP", DPoP=fresh)).status_code == 201

    async def test_the_key_stands_for_the_device_that_the_login_has_read(
        self, eligibility: Eligibility, identity_world: IdentityWorld, key: ProofKey
    ) -> None:
        survey_id, voter = await identity_world.survey(), await identity_world.voter()
        read = KeyedHash("lookup/1", secrets.token_bytes(32))
        await PostgresDeviceSightings(identity_world.identity["eu"]).note([read], voter, datetime.now(UTC))
        token = identity_world.token(voter, jkt=key.jkt, device=base64url.encode_text(read.digest))
        url = f"{PUBLIC_URL}/v1/surveys/{survey_id}/voting-token"
        proof = make_proof(key, "POST", url, time.time(), token=token)
        answer = await eligibility.ask(survey_id, token, "DPoP", DPoP=proof)
        assert answer.status_code == 201, answer.text

    async def test_unbound_token_is_not_sent_as_bound(
        self, eligibility: Eligibility, identity_world: IdentityWorld, key: ProofKey
    ) -> None:
        survey_id, token = await identity_world.survey(), identity_world.token(await identity_world.voter())
        url = f"{PUBLIC_URL}/v1/surveys/{survey_id}/voting-token"
        sent = make_proof(key, "POST", url, time.time(), token=token)
        refused = await eligibility.ask(survey_id, token, "DPoP", DPoP=sent)
        assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")

    async def test_two_proofs_are_none(
        self, eligibility: Eligibility, identity_world: IdentityWorld, key: ProofKey
    ) -> None:
        survey_id = await identity_world.survey()
        token = identity_world.token(await identity_world.voter(), jkt=key.jkt)
        path = f"/v1/surveys/{survey_id}/voting-token"
        proofs = [make_proof(key, "POST", PUBLIC_URL + path, time.time(), token=token) for _ in range(2)]
        headers = [("authorization", f"DPoP {token}"), *(("dpop", proof) for proof in proofs)]
        refused = await eligibility.client.post(path, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "proof_invalid")


@pytest.mark.parametrize("body", ["[]", '{"survey":"1"}', "{", "null", "\x00"])
async def test_body_has_no_fields(eligibility: Eligibility, identity_world: IdentityWorld, body: str) -> None:
    survey_id, token = await identity_world.survey(), identity_world.token(await identity_world.voter())
    path, headers = f"/v1/surveys/{survey_id}/voting-token", {"authorization": f"Bearer {token}"}
    headers["content-type"] = "application/json"
    answer = await eligibility.client.post(path, headers=headers, content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    assert (await eligibility.client.post(path, headers=headers, content="{}")).status_code == 201


async def test_what_it_does_is_counted(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id, token = await identity_world.survey(), identity_world.token(await identity_world.voter())
    names = (
        'auth_tokens_issued_total{kind="voting"}',
        'auth_tokens_accepted_total{kind="access"}',
        'risk_decisions_total{decision="ALLOW"}',
        'db_query_seconds_count{database="eu",query="candidates"}',
        "risk_score_permille_count",
        "risk_decision_seconds_count",
    )
    before = [eligibility.metric(name) for name in names]
    assert (await eligibility.ask(survey_id, token)).status_code == 201
    assert [eligibility.metric(name) for name in names] == [value + 1 for value in before]
    await eligibility.refusal(survey_id, "nonsense")
    assert eligibility.metric('auth_failures_total{code="token_invalid"}') >= 1


async def test_it_is_ready_and_documented(eligibility: Eligibility) -> None:
    assert (await eligibility.client.get("/readyz")).json() == {"ready": True, "checks": {"cells": "ok"}}
    call = (await eligibility.client.get("/openapi.json")).json()["paths"]["/v1/surveys/{id}/voting-token"]["post"]
    assert call["security"] == [{"voterToken": []}]
    assert {"201", "400", "401", "403", "404", "409", "421", "503"} <= set(call["responses"])


async def test_an_ended_session_admits_no_more(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey, voter, key = await identity_world.survey(), await identity_world.voter(), ProofKey.generate()
    sessions = PostgresSessions(identity_world.identity["eu"])
    login = NewSession(new_session_id("eu"), voter, key.jkt, LoginMethod.PASSKEY, Assurance.SUBSTANTIAL, RiskBand.LOW)
    await sessions.open(login, new_refresh_token("eu"))
    token = identity_world.token(voter, session_id=login.session_id)
    assert (await eligibility.ask(survey, token)).status_code == 201
    assert await sessions.end(voter, login.session_id, EndReason.LOGGED_OUT)
    give_up_at = asyncio.get_running_loop().time() + 20
    while (answer := await eligibility.ask(survey, token)).status_code == 201:
        assert asyncio.get_running_loop().time() < give_up_at
        await asyncio.sleep(0.05)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked")
