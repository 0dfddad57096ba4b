"""A captured proof, brought to two real processes of one service within its minute."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from comitia.stack.state import StackState
from integrations.keys.dpop_keys import make_proof
from tests.answers import code_of
from tests.api.auth.conftest import PUBLIC_URL, Auth, LoggedIn
from tests.api.auth.elsewhere import Elsewhere, open_elsewhere

SESSIONS, REFRESH = "/v1/auth/sessions", "/v1/auth/token"
USED = (401, "proof_invalid")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def elsewhere(servers: StackState) -> AsyncIterator[Elsewhere]:
    async with open_elsewhere(servers) as made:
        yield made


@dataclass(frozen=True)
class Captured:
    """One request as it was sent, proof and all."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    async def send(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(self.method, self.path, headers=self.headers, content=self.body)


def reading(login: LoggedIn) -> Captured:
    token = login.tokens.access_token
    proof = make_proof(login.key, "GET", PUBLIC_URL + SESSIONS, time.time(), token=token)
    return Captured("GET", SESSIONS, {"authorization": f"DPoP {token}", "dpop": proof})


def refreshing(login: LoggedIn) -> Captured:
    body = httpx.Request("POST", "/", json={"refreshToken": login.tokens.refresh_token}).content
    proof = make_proof(login.key, "POST", PUBLIC_URL + REFRESH, time.time(), body=body)
    return Captured("POST", REFRESH, {"dpop": proof, "content-type": "application/json"}, body)


@pytest.mark.parametrize("capture", [reading, refreshing])
@pytest.mark.parametrize("here_first", [True, False])
async def test_a_proof_is_good_at_one_process(auth: Auth, elsewhere: Elsewhere, capture: Any, here_first: bool) -> None:  # noqa: FBT001
    one, other = (auth.client, elsewhere.client) if here_first else (elsewhere.client, auth.client)
    login = await auth.log_in()
    request: Captured = capture(login)
    assert (await request.send(one)).status_code == 200
    assert code_of(await request.send(other)) == USED
    assert code_of(await request.send(one)) == USED
    assert await elsewhere.code(login) == "", "a repeated request ends nobody's session"


async def test_while_redis_is_away_each_process_knows_its_own(auth: Auth, elsewhere: Elsewhere) -> None:
    request = reading(await auth.log_in(cell="us"))
    assert (await request.send(auth.client)).status_code == 200
    assert (await request.send(elsewhere.client)).status_code == 200, "nobody is refused for the outage"
    assert code_of(await request.send(elsewhere.client)) == USED
