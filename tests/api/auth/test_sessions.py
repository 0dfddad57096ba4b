"""Sessions over HTTP, attacked: tokens used twice, by others, at once, and after the end."""

import asyncio
import json
import time
from typing import Any

import jwt
import pytest

from domain.eligibility import VoterStatus
from domain.sessions import SESSIONS_MAX, EndReason, refresh_token_hash
from domain.tokens import LIFETIME_S
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.postgres.accounts import PostgresAccounts
from tests.answers import code_of
from tests.api.auth.conftest import PUBLIC_URL, Auth, LoggedIn

PATIENCE_S = 20.0
UNKNOWN = "rt_eu_" + "a" * 43


INVALID = (401, "refresh_token_invalid")


async def end_of(auth: Auth, session_id: str) -> str | None:
    reason: str | None = await auth.world.identity["eu"].fetchval(
        "SELECT end_reason FROM identity.session WHERE session_id = $1", session_id
    )
    return reason


async def until_revoked(auth: Auth, login: LoggedIn) -> None:
    """Wait until the service refuses an access token; another process has ended its session."""
    give_up_at = time.monotonic() + PATIENCE_S
    while (await auth.call(login, "GET", "/v1/auth/sessions")).status_code != 401:
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.02)


async def test_a_refresh_gives_tokens_of_the_same_session_and_key(auth: Auth) -> None:
    login = await auth.log_in(device="d" * 43, network="192.0.2.0/24")
    answer = await auth.refresh(login.tokens.refresh_token, login.key)
    assert answer.status_code == 200
    body = answer.json()
    assert body["refreshToken"] != login.tokens.refresh_token
    assert (body["tokenType"], body["expiresIn"], body["sessionId"]) == ("DPoP", LIFETIME_S, login.tokens.session_id)
    claims = jwt.decode(body["accessToken"], options={"verify_signature": False})
    assert (claims["sub"], claims["sid"], claims["cnf"]) == (
        login.voter_id,
        login.tokens.session_id,
        {"jkt": login.key.jkt},
    )
    assert (claims["device"], claims["network"], claims["region"]) == ("d" * 43, "192.0.2.0/24", "DE")
    again = await auth.refresh(body["refreshToken"], login.key)
    assert again.status_code == 200


async def test_no_token_is_stored(auth: Auth) -> None:
    login = await auth.log_in()
    following = (await auth.refresh(login.tokens.refresh_token, login.key)).json()["refreshToken"]
    rows = await auth.world.identity["eu"].fetch(
        "SELECT * FROM identity.refresh_token WHERE session_id = $1 ORDER BY generation", login.tokens.session_id
    )
    assert [row["token_hash"] for row in rows] == [
        refresh_token_hash(login.tokens.refresh_token),
        refresh_token_hash(following),
    ]
    text = str(rows)
    assert login.tokens.refresh_token[6:] not in text
    assert following[6:] not in text


async def test_a_repeat_at_once_gets_the_same_successor(auth: Auth) -> None:
    login = await auth.log_in()
    answers = [(await auth.refresh(login.tokens.refresh_token, login.key)).json() for _ in range(3)]
    assert len({answer["refreshToken"] for answer in answers}) == 1
    assert (await auth.refresh(answers[0]["refreshToken"], login.key)).status_code == 200


async def test_a_token_used_again_after_its_successor_ends_the_session(auth: Auth) -> None:
    login = await auth.log_in()
    second = (await auth.refresh(login.tokens.refresh_token, login.key)).json()["refreshToken"]
    third = (await auth.refresh(second, login.key)).json()["refreshToken"]
    assert code_of(await auth.refresh(login.tokens.refresh_token, login.key)) == INVALID
    assert code_of(await auth.refresh(third, login.key)) == INVALID  # the newest too: the family has ended
    assert await end_of(auth, login.tokens.session_id) == EndReason.TOKEN_REUSED
    assert code_of(await auth.call(login, "GET", "/v1/auth/sessions")) == (401, "session_revoked")


async def test_a_token_used_again_after_the_grace_ends_the_session(auth: Auth) -> None:
    login = await auth.log_in()
    assert (await auth.refresh(login.tokens.refresh_token, login.key)).status_code == 200
    await auth.world.identity["eu"].execute(
        "UPDATE identity.refresh_token SET used_at = used_at - interval '11 s' WHERE token_hash = $1",
        refresh_token_hash(login.tokens.refresh_token),
    )
    assert code_of(await auth.refresh(login.tokens.refresh_token, login.key)) == INVALID
    assert await end_of(auth, login.tokens.session_id) == EndReason.TOKEN_REUSED


@pytest.mark.parametrize("uses", [0, 1])
async def test_a_token_with_another_key_ends_the_session(auth: Auth, uses: int) -> None:
    login = await auth.log_in()
    for _ in range(uses):
        await auth.refresh(login.tokens.refresh_token, login.key)
    assert code_of(await auth.refresh(login.tokens.refresh_token, ProofKey.generate())) == INVALID
    assert code_of(await auth.refresh(login.tokens.refresh_token, login.key)) == INVALID
    assert await end_of(auth, login.tokens.session_id) == EndReason.TOKEN_OF_OTHER_KEY


async def test_of_many_uses_at_once_one_wins_and_the_others_hear_of_it(auth: Auth) -> None:
    login = await auth.log_in()
    answers = await asyncio.gather(*(auth.refresh(login.tokens.refresh_token, login.key) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refreshToken"] for answer in answers}) == 1
    generations = await auth.world.identity["eu"].fetchval(
        "SELECT max(generation) FROM identity.refresh_token WHERE session_id = $1", login.tokens.session_id
    )
    assert generations == 2


async def test_a_thief_at_the_same_moment_gets_nothing(auth: Auth) -> None:
    login = await auth.log_in()
    thief = ProofKey.generate()
    keys = [login.key, thief] * 4
    answers = await asyncio.gather(*(auth.refresh(login.tokens.refresh_token, key) for key in keys))
    assert {answer.status_code for answer, key in zip(answers, keys, strict=True) if key is thief} == {401}
    assert await end_of(auth, login.tokens.session_id) == EndReason.TOKEN_OF_OTHER_KEY
    for answer in answers:  # also what the owner got in between is worth nothing now
        if answer.status_code == 200:
            assert code_of(await auth.refresh(answer.json()["refreshToken"], login.key)) == INVALID


async def test_tokens_of_two_generations_at_once_do_not_stand_in_each_others_way(auth: Auth) -> None:
    login = await auth.log_in()
    second = (await auth.refresh(login.tokens.refresh_token, login.key)).json()["refreshToken"]
    tokens = [login.tokens.refresh_token, second] * 6
    answers = await asyncio.gather(*(auth.refresh(token, login.key) for token in tokens))
    assert {answer.status_code for answer in answers} <= {200, 401}


@pytest.mark.parametrize("token", [UNKNOWN, "rt_nowhere_" + "a" * 43, "nonsense", ""])
async def test_what_is_no_token_of_ours_is_refused(auth: Auth, token: str) -> None:
    answer = await auth.refresh(token, ProofKey.generate())
    assert code_of(answer) in (INVALID, (421, "wrong_cell"))


async def test_a_refresh_needs_a_fresh_proof_for_this_body(auth: Auth) -> None:
    login = await auth.log_in()
    body = json.dumps({"refreshToken": login.tokens.refresh_token}).encode()
    good = make_proof(login.key, "POST", f"{PUBLIC_URL}/v1/auth/token", time.time(), body=body)
    proofs: list[Any] = [
        None,
        make_proof(login.key, "POST", f"{PUBLIC_URL}/v1/auth/token", time.time()),
        make_proof(login.key, "POST", f"{PUBLIC_URL}/v1/auth/logout", time.time(), body=body),
        make_proof(login.key, "GET", f"{PUBLIC_URL}/v1/auth/token", time.time(), body=body),
        make_proof(login.key, "POST", f"{PUBLIC_URL}/v1/auth/token", time.time() - 120, body=body),
    ]
    for proof in proofs:
        headers = {"content-type": "application/json", **({"dpop": proof} if proof else {})}
        answer = await auth.client.post("/v1/auth/token", content=body, headers=headers)
        assert code_of(answer) == (401, "proof_invalid")
    headers = {"content-type": "application/json", "dpop": good}
    assert (await auth.client.post("/v1/auth/token", content=body, headers=headers)).status_code == 200
    replayed = await auth.client.post("/v1/auth/token", content=body, headers=headers)
    assert code_of(replayed) == (401, "proof_invalid")


async def test_a_suspended_account_is_refreshed_no_more_and_opens_no_session(auth: Auth) -> None:
    login = await auth.log_in()
    await PostgresAccounts(auth.world.identity["eu"], "eu").set_status(login.voter_id, VoterStatus.SUSPENDED, "test")
    assert code_of(await auth.refresh(login.tokens.refresh_token, login.key)) == INVALID
    with pytest.raises(Exception, match="voter_not_active"):
        await auth.log_in(login.voter_id)


async def test_sessions_are_listed_for_their_voter_alone(auth: Auth) -> None:
    first = await auth.log_in(network="192.0.2.0/24")
    second, stranger = await auth.log_in(first.voter_id), await auth.log_in()
    listed = (await auth.call(first, "GET", "/v1/auth/sessions")).json()["sessions"]
    assert [(found["sessionId"], found["isThis"], found["network"]) for found in listed] == [
        (second.tokens.session_id, False, ""),
        (first.tokens.session_id, True, "192.0.2.0/24"),
    ]
    path = f"/v1/auth/sessions/{stranger.tokens.session_id}"
    assert code_of(await auth.call(first, "DELETE", path)) == (404, "session_not_found")
    assert (await auth.refresh(stranger.tokens.refresh_token, stranger.key)).status_code == 200


async def test_a_revoked_session_is_over_at_once(auth: Auth) -> None:
    mine = await auth.log_in()
    lost = await auth.log_in(mine.voter_id)
    path = f"/v1/auth/sessions/{lost.tokens.session_id}"
    assert (await auth.call(mine, "DELETE", path)).status_code == 204
    assert code_of(await auth.call(lost, "GET", "/v1/auth/sessions")) == (401, "session_revoked")
    assert code_of(await auth.refresh(lost.tokens.refresh_token, lost.key)) == INVALID
    assert code_of(await auth.call(mine, "DELETE", path)) == (404, "session_not_found")
    assert (await auth.call(mine, "GET", "/v1/auth/sessions")).status_code == 200


@pytest.mark.parametrize(("everywhere", "status_of_other"), [(False, 200), (True, 401)])
async def test_logging_out_ends_this_session_or_all(auth: Auth, *, everywhere: bool, status_of_other: int) -> None:
    mine = await auth.log_in()
    other = await auth.log_in(mine.voter_id)
    body = json.dumps({"everywhere": everywhere}).encode()
    assert (await auth.call(mine, "POST", "/v1/auth/logout", body)).status_code == 204
    assert code_of(await auth.call(mine, "GET", "/v1/auth/sessions")) == (401, "session_revoked")
    assert (await auth.call(other, "GET", "/v1/auth/sessions")).status_code == status_of_other


async def test_one_session_too_many_ends_the_one_used_longest_ago(auth: Auth) -> None:
    first = await auth.log_in()
    others = [await auth.log_in(first.voter_id) for _ in range(SESSIONS_MAX)]
    assert await end_of(auth, first.tokens.session_id) == EndReason.TOO_MANY
    await until_revoked(auth, first)
    assert (await auth.call(others[0], "GET", "/v1/auth/sessions")).status_code == 200


async def test_a_stolen_access_token_is_worth_nothing_without_its_key(auth: Auth) -> None:
    login = await auth.log_in()
    stolen = LoggedIn(login.voter_id, ProofKey.generate(), login.tokens)
    assert code_of(await auth.call(stolen, "GET", "/v1/auth/sessions")) == (401, "proof_invalid")
    headers = {"authorization": f"Bearer {login.tokens.access_token}"}
    assert code_of(await auth.client.get("/v1/auth/sessions", headers=headers)) == (401, "proof_invalid")
