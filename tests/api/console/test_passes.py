"""Passes that staff give to programs of theirs: for whom, where, for how long, and with which key they are good."""

import asyncio
import json
import stat
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from api.console.opening import staff_passes
from api.http.access import Access, Principal
from api.http.application import create_application
from api.http.sign_ins import SignIns
from api.http.used_proofs import UsedProofs
from comitia.cli import app as commands
from domain.console import SessionKind
from domain.errors import DomainError, ErrorCode
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.identity_cell import identity_pools
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN
from integrations.keys.signing import VerificationKeys
from integrations.keys.tokens import TokenVerifier
from integrations.postgres.roles import IDENTITY, STAFFING
from integrations.postgres.staff_sign_ins import PostgresStaffSignIns
from integrations.sandboxes.mounting import mount
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.telemetry.telemetry import make_telemetry
from tests.answers import code_of
from tests.conftest import OwnerPool, SettingsFor
from tests.console_world import ADDRESS, ConsoleWorld, console_world
from tests.limits_world import lonely_limits

BASE = "/console"
NOTES = "/v1/notes"
_ENTRIES = "SELECT body FROM audit.entry WHERE kind = $1 AND body->>'actor' = $2 ORDER BY xid"


@dataclass
class Office:
    """A console, and a service that takes its passes: `client` by its name, `address` on this machine."""

    world: ConsoleWorld
    pools: Mapping[str, asyncpg.Pool]
    client: httpx.AsyncClient
    address: str

    async def ask(self, given: str, key: ProofKey, *, body: bytes = b"{}", scheme: str = "DPoP") -> httpx.Response:
        """Use a pass with a proof of this key."""
        proof = make_proof(key, "POST", f"{ADDRESS}{NOTES}", time.time(), token=given, body=body)
        headers = {"authorization": f"{scheme} {given}", "content-type": "application/json"}
        return await self.client.post(
            NOTES, content=body, headers=headers | ({"dpop": proof} if scheme == "DPoP" else {})
        )


def service(settings: Settings, access: Access) -> FastAPI:
    """One route, for officers."""
    app = create_application("support", make_telemetry(settings, "support"), forms_below=BASE)
    Officer = Annotated[Principal, Depends(access.require_role(Role.COMPLIANCE))]  # noqa: N806 - a type

    @app.post(NOTES)
    async def note(said: dict[str, Any], principal: Officer) -> dict[str, Any]:
        return {"actor": principal.actor, **said}

    return app


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(settings_for: SettingsFor, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    settings = settings_for(IDENTITY, STAFFING)
    keys = FileKms(tmp_path_factory.mktemp("keys"), frozenset({ACCESS_TOKEN, STAFF_TOKEN}))
    await AccessTokens(keys).refresh()
    staff, voters = VerificationKeys(keys, STAFF_TOKEN), VerificationKeys(keys, ACCESS_TOKEN)
    for held in (staff, voters):
        await held.refresh()
    async with AsyncExitStack() as lifetime:
        pools = await identity_pools(settings, lifetime)
        world = await lifetime.enter_async_context(console_world(settings, pools, BASE, Path(__file__).parent))

        def reached_at(public_url: str) -> FastAPI:
            access = Access(
                staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff),
                voters=TokenVerifier(VoterClaims, VOTER_ACCESS, voters),
                proofs=RequestProofs(DpopVerifier(), public_url),
                used=UsedProofs({}),
                limits=lonely_limits(),
                metrics=AuthMetrics(CollectorRegistry()),
                passes=staff_passes(world.keys, pools),
                sign_ins=SignIns("support", {cell: PostgresStaffSignIns(pool) for cell, pool in pools.items()}),
            )
            return service(settings, access)

        app, served = reached_at(ADDRESS), mount({})
        app.include_router(world.console.router)
        world.serve(app)
        assert world.transport is not None
        client = httpx.AsyncClient(transport=world.transport, base_url=ADDRESS)
        address = await lifetime.enter_async_context(serve_sandboxes(served))
        served.mount("/", reached_at(address))
        yield Office(world, pools, client, address)


async def bodies(owner: asyncpg.Pool, kind: str, actor: str) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in await owner.fetch(_ENTRIES, kind, actor)]


async def test_a_program_with_a_pass_acts_as_whoever_gave_it_and_it_is_written_down(
    office: Office, owner_pool: OwnerPool
) -> None:
    actor, browser = await office.world.signed_in(Role.COMPLIANCE, cell="us")
    key = ProofKey.generate()
    given = await browser.pass_for(key.jkt)
    for _ in range(2):
        answer = await office.ask(given, key, body=b'{"said": "yes"}')
        assert (answer.status_code, answer.json()) == (200, {"actor": actor, "said": "yes"})
    entries = await bodies(await owner_pool("us"), "staff.signed_in", actor)
    assert [entry["facts"]["service"] for entry in entries] == ["console", "program", "support"]
    assert entries[1]["subject"] == entries[2]["subject"] != entries[0]["subject"]  # two sessions
    assert not any(key.jkt in json.dumps(entry) or given in json.dumps(entry) for entry in entries)


async def test_a_pass_is_nothing_without_its_key_and_no_role_comes_with_it(
    office: Office, owner_pool: OwnerPool
) -> None:
    actor, browser = await office.world.signed_in(Role.SUPPORT)
    key, other = ProofKey.generate(), ProofKey.generate(algorithm="ES256")
    given = await browser.pass_for(key.jkt)
    assert code_of(await office.ask(given, other)) == (401, "proof_invalid")
    assert code_of(await office.ask(given, key, scheme="Bearer")) == (401, "proof_invalid")
    assert code_of(await office.ask(given, key)) == (403, "forbidden")
    entries = await bodies(await owner_pool("eu"), "staff.refused", actor)
    assert [entry["outcome"] for entry in entries] == ["proof_invalid", "forbidden"]


async def test_what_is_no_pass_of_these_pages_is_none(office: Office) -> None:
    actor, browser = await office.world.signed_in(Role.COMPLIANCE)
    key = ProofKey.generate()
    given = await browser.pass_for(key.jkt)
    assert (await office.ask(given, key)).status_code == 200
    last = "A" if given[-1] != "A" else "E"
    for none in ("pass-", given[:-1] + last, f"pass-{browser.cookie}", "pass-2026-01-01.1." + "A" * 60):
        assert code_of(await office.ask(none, key)) == (401, "token_invalid"), none
    surveys = staff_passes(office.world.keys, office.pools, SessionKind.SURVEYS)
    with pytest.raises(DomainError) as raised:
        await surveys.claims(given.encode())
    assert raised.value.code is ErrorCode.TOKEN_INVALID
    stranger = office.world.browser()
    stranger.cookie = given.removeprefix("pass-")
    assert (await stranger.get("/pass")).status_code == 401
    assert actor not in (await stranger.get("/pass")).text


async def test_a_pass_ends_by_time_and_with_its_owners_place_on_the_roll(office: Office, owner_pool: OwnerPool) -> None:
    key, owner = ProofKey.generate(), await owner_pool("eu")
    actor, browser = await office.world.signed_in(Role.COMPLIANCE)
    first, second = await browser.pass_for(key.jkt), await browser.pass_for(key.jkt)
    staff_id = actor.removeprefix("staff:")
    lasts = await owner.fetch(
        "SELECT extract(epoch FROM expires_at - now())::float AS s FROM identity.login_transaction"
        " WHERE kind = 'console' AND subject LIKE $1",
        f"{staff_id} %",
    )
    assert len(lasts) == 3
    assert all(14 * 60 < row["s"] <= 15 * 60 for row in lasts)
    await browser.submit(await browser.get("/pass"), "/sign-out")  # of the browser's session, not of theirs
    assert (await office.ask(first, key)).status_code == 200
    await office.world.staff["eu"].disable(staff_id, "comitia:tests")
    assert code_of(await office.ask(second, key)) == (401, "token_expired")
    actor, browser = await office.world.signed_in(Role.COMPLIANCE)
    given = await browser.pass_for(key.jkt)
    await owner.execute(
        "UPDATE identity.login_transaction SET expires_at = now() WHERE subject LIKE $1",
        f"{actor.removeprefix('staff:')} %",
    )
    assert code_of(await office.ask(given, key)) == (401, "token_expired")


async def test_only_whoever_is_signed_in_gives_a_pass_and_only_for_a_key(office: Office) -> None:
    stranger = office.world.browser()
    assert (await stranger.get(f"/pass?key={ProofKey.generate().jkt}")).status_code == 401
    _, browser = await office.world.signed_in(Role.SUPPORT)
    page = await browser.get("/pass?key=%3Cscript%3E")
    assert "<script>" not in page.text.partition("</head>")[2]
    for thumbprint in ("<script>", "x" * 44, " "):
        answer = await browser.submit(page, "/pass", thumbprint=thumbprint)
        assert answer.status_code == 400, thumbprint
        assert "pass-" not in answer.text
    answer = await browser.post(f"{BASE}/pass", {"thumbprint": ProofKey.generate().jkt})  # no form of the page
    assert answer.status_code == 403


async def test_somebody_signs_in_from_a_terminal_and_asks(office: Office, tmp_path: Path) -> None:
    kept = tmp_path / "pass"
    arguments = (sys.executable, "-m", "comitia.cli", "sign-in", f"{ADDRESS}{BASE}", "--pass", str(kept))
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, stderr=pipe)
    assert program.stdin is not None
    assert program.stderr is not None
    actor, browser = await office.world.signed_in(Role.COMPLIANCE)
    async with asyncio.timeout(60):
        while (line := (await program.stderr.readline()).decode()) and not line.startswith("https://"):
            pass
        given = await browser.pass_for(line.strip().partition("?key=")[2])
        program.stdin.write(given.encode() + b"\n")
        program.stdin.close()
        assert await program.wait() == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (tmp_path / "body").write_text('{"said": "from afar"}')

    async def request(method: str, path: str, *options: str) -> tuple[int, str, str]:
        asked = ["request", method, f"{office.address}{path}", "--pass", str(kept), *options]
        result = await asyncio.to_thread(CliRunner().invoke, commands, asked)
        return result.exit_code, result.stdout, result.stderr

    code, out, err = await request("post", f"{NOTES}?said=1", "--body", str(tmp_path / "body"), "--header", "X-A: b")
    assert (code, json.loads(out)) == (0, {"actor": actor, "said": "from afar"}), err
    code, out, err = await request("GET", NOTES)
    assert (code, "answered 405" in err) == (1, True)
    kept.write_text("{}")
    code, out, err = await request("GET", NOTES)
    assert (code, out, "comitia sign-in" in err) == (1, "", True)
