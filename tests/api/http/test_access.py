"""Who may call a route: staff by role, machines by key, voters by token, and nobody by another's."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from api.http.access import Access, Principal
from api.http.application import create_application
from api.http.limits import Limits
from api.http.used_proofs import UsedProofs
from domain.access import MachineClient
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN
from integrations.keys.signing import VerificationKeys
from integrations.keys.tokens import TokenVerifier
from integrations.settings import Environment, Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.telemetry.telemetry import make_telemetry
from tests.answers import code_of
from tests.limits_world import lonely_limits

URL = "http://staff.test"
VOTER = "v_eu_" + "a" * 26


class Clients:
    """Machine clients by key."""

    def __init__(self, **clients: MachineClient) -> None:
        self._clients = clients
        self.asked = 0

    async def find(self, api_key: str) -> MachineClient | None:
        self.asked += 1
        return self._clients.get(api_key)

    def remembers(self, api_key: str) -> bool:
        return api_key in self._clients


@pytest.fixture
async def tokens(tmp_path: Path) -> AccessTokens:
    made = AccessTokens(FileKms(tmp_path, frozenset({ACCESS_TOKEN, STAFF_TOKEN})))
    await made.refresh()
    return made


@asynccontextmanager
async def served(
    tmp_path: Path, clients: Clients, limits: Limits, registry: CollectorRegistry | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    keys = FileKms(tmp_path, frozenset({f"public:{ACCESS_TOKEN}", f"public:{STAFF_TOKEN}"}))
    staff, voters = VerificationKeys(keys, STAFF_TOKEN), VerificationKeys(keys, ACCESS_TOKEN)
    await staff.refresh()
    await voters.refresh()
    access = Access(
        staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff),
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, voters),
        proofs=RequestProofs(DpopVerifier(), URL),
        used=UsedProofs({}),
        limits=limits,
        metrics=AuthMetrics(registry or CollectorRegistry()),
        clients=clients,
    )
    app = create_application("test", make_telemetry(Settings(environment=Environment.TEST), "test"), public_url=URL)
    add_routes(app, access)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as made:
        yield made


@pytest.fixture
async def client(tmp_path: Path, tokens: AccessTokens) -> AsyncIterator[httpx.AsyncClient]:
    assert tokens
    clients = Clients(
        reader=MachineClient("c_reader", frozenset({Role.AUDITOR}), 60),
        admin=MachineClient("c_admin", frozenset({Role.ADMIN}), 60),
        slow=MachineClient("c_slow", frozenset({Role.ADMIN}), 2),
    )
    async with served(tmp_path, clients, lonely_limits()) as made:
        yield made


def add_routes(app: FastAPI, access: Access) -> None:
    """One route for whom each dependency lets in."""
    admin, voter = access.require_role(Role.ADMIN, Role.COMPLIANCE), access.require_voter()

    @app.post("/staff/{id}")
    async def staff_route(id: str, principal: Annotated[Principal, Depends(admin)]) -> dict[str, str]:  # noqa: A002
        return {"actor": principal.actor, "id": id}

    @app.get("/voter")
    async def voter_route(claims: Annotated[VoterClaims, Depends(voter)]) -> dict[str, str]:
        return {"sub": claims.sub}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_staff_with_the_role_are_let_in(client: httpx.AsyncClient, tokens: AccessTokens) -> None:
    for roles in ([Role.ADMIN], [Role.COMPLIANCE], [Role.SUPPORT, Role.ADMIN]):
        answer = await client.post("/staff/1", headers=bearer(tokens.staff("u_ada", roles)))
        assert (answer.status_code, answer.json()) == (200, {"actor": "staff:u_ada", "id": "1"})


async def test_staff_without_the_role_are_not(client: httpx.AsyncClient, tokens: AccessTokens) -> None:
    for roles in ([], [Role.SUPPORT], [Role.AUDITOR]):
        answer = await client.post("/staff/1", headers=bearer(tokens.staff("u_ada", roles)))
        assert code_of(answer) == (403, "forbidden")


async def test_voters_and_staff_are_kept_apart(client: httpx.AsyncClient, tokens: AccessTokens) -> None:
    voter, staff = tokens.voter(VOTER, "eu", "DE"), tokens.staff(VOTER, list(Role))
    assert (await client.get("/voter", headers=bearer(voter))).json() == {"sub": VOTER}
    assert code_of(await client.post("/staff/1", headers=bearer(voter))) == (401, "token_invalid")
    assert code_of(await client.get("/voter", headers=bearer(staff))) == (401, "token_invalid")
    assert code_of(await client.get("/voter", headers={"x-api-key": "admin"})) == (401, "unauthenticated")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic YTpi"}, {"authorization": "Bearer "}])
async def test_nobody_is_let_in_without_a_token(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post("/staff/1", headers=headers)
    assert code_of(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"]


async def test_who_is_let_in_and_who_is_not_is_counted(tmp_path: Path, tokens: AccessTokens) -> None:
    registry = CollectorRegistry()
    async with served(tmp_path, Clients(), lonely_limits(), registry) as client:
        assert (await client.post("/staff/1", headers=bearer(tokens.staff("u_ada", [Role.ADMIN])))).status_code == 200
        for headers in (bearer("nonsense"), {"X-API-Key": "ck_eu_" + "a" * 43}):
            assert (await client.post("/staff/1", headers=headers)).status_code == 401
    assert registry.get_sample_value("auth_tokens_accepted_total", {"kind": "staff"}) == 1
    assert registry.get_sample_value("auth_failures_total", {"code": "token_invalid"}) == 1
    assert registry.get_sample_value("auth_failures_total", {"code": "unauthenticated"}) == 1


async def test_expired_token_is_refused(client: httpx.AsyncClient, tokens: AccessTokens) -> None:
    tokens._now = lambda: time.time() - 3600
    answer = await client.post("/staff/1", headers=bearer(tokens.staff("u_ada", [Role.ADMIN])))
    assert code_of(answer) == (401, "token_expired")


async def test_bound_staff_token_needs_its_proof(client: httpx.AsyncClient, tokens: AccessTokens) -> None:
    key = ProofKey.generate()
    token = tokens.staff("u_ada", [Role.ADMIN], jkt=key.jkt)
    body, path = b'{"a":1}', "/staff/%C3%A4"
    for method, url, said, expected in (
        ("POST", URL + path, body, 200),
        ("POST", URL + path, b"{}", 401),
        ("POST", f"{URL}/staff/1", body, 401),
        ("PUT", URL + path, body, 401),
    ):
        proof = make_proof(key, method, url, time.time(), token=token, body=said)
        headers = {"authorization": f"DPoP {token}", "dpop": proof, "content-type": "application/json"}
        answer = await client.post(path + "?query=1", content=body, headers=headers)
        assert answer.status_code == expected, answer.text
    assert code_of(await client.post(path, headers=bearer(token))) == (401, "proof_invalid")


async def test_machine_client_has_its_own_roles(client: httpx.AsyncClient) -> None:
    answer = await client.post("/staff/1", headers={"X-API-Key": "admin"})
    assert answer.json() == {"actor": "client:c_admin", "id": "1"}
    assert code_of(await client.post("/staff/1", headers={"X-API-Key": "reader"})) == (403, "forbidden")
    assert code_of(await client.post("/staff/1", headers={"X-API-Key": "nobody"})) == (401, "unauthenticated")


async def test_machine_client_has_its_own_limit(client: httpx.AsyncClient) -> None:
    answers = [await client.post("/staff/1", headers={"X-API-Key": "slow"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert (await client.post("/staff/1", headers={"X-API-Key": "admin"})).status_code == 200


async def test_whoever_tries_keys_is_refused_before_they_are_looked_up(tmp_path: Path) -> None:
    known = MachineClient("c_known", frozenset({Role.ADMIN}), 60)
    clients = Clients(known=known)
    async with served(tmp_path, clients, lonely_limits(failure_address=(3, 600))) as client:
        answers = [await client.post("/staff/1", headers={"X-API-Key": f"guess-{n}"}) for n in range(10)]
        assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 7
        assert answers[-1].headers["ratelimit-policy"].startswith('"failure-address";q=3;')
        assert clients.asked == 3
        good = await client.post("/staff/1", headers={"X-API-Key": "known"})
        assert good.status_code == 200  # one that is remembered costs no look-up


async def test_a_member_of_staff_has_a_limit_and_no_colleague_uses_it_up(tmp_path: Path, tokens: AccessTokens) -> None:
    ada, bob = (bearer(tokens.staff(name, [Role.ADMIN])) for name in ("u_ada", "u_bob"))
    async with served(tmp_path, Clients(), lonely_limits(staff=(2, 600))) as client:
        answers = [await client.post("/staff/1", headers=ada) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert (await client.post("/staff/1", headers=bob)).status_code == 200
        assert (await client.post("/staff/1", headers=bob)).headers["ratelimit"].startswith('"staff";r=0;')


async def test_dependencies_are_documented(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["paths"]["/staff/{id}"]["post"]["security"] == [{"staffToken": []}, {"apiKey": []}]
    assert document["paths"]["/voter"]["get"]["security"] == [{"voterToken": []}]
