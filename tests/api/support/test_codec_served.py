"""The codec server as it is composed: for Temporal's command line, for its UI, and for programs of staff."""

import asyncio
import base64
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
from temporalio.api.common.v1 import Payload

from api.composition import Service
from api.http.serving import serve
from api.support.composition import BASE, TEMPLATES, compose
from domain.audit import AuditKind
from domain.contracts.registration import VerifyIdentityInput
from domain.tokens import Role
from integrations.identity_cell import identity_pools
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.dpop_keys import ProofKey, make_proof
from integrations.keys.opening import open_keys
from integrations.keys.purposes import (
    ACCESS_TOKEN,
    HISTORY,
    STAFF_TOKEN,
    history,
)
from integrations.postgres.roles import CODEC, IDENTITY, STAFFING
from integrations.settings import Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from tests.api.support.test_codec import DECIDED, DECODE, UI, as_json, code_of, shown_in
from tests.audited import leaves
from tests.conftest import OwnerPool, SettingsFor
from tests.console_world import ADDRESS, Browser, console_world
from tests.contracts.models import example_of


@asynccontextmanager
async def composed(settings: Settings) -> AsyncIterator[Service]:
    async with AsyncExitStack() as lifetime:
        yield await compose(settings, lifetime, make_telemetry(settings, "support"))


async def test_whoever_has_a_token_of_staff_opens_a_history_with_temporals_own_command_line(
    settings_for: SettingsFor, owner_pool: OwnerPool
) -> None:
    settings = settings_for(IDENTITY, CODEC, codec_origins=frozenset({UI}))
    keys = open_keys(settings, ACCESS_TOKEN, STAFF_TOKEN, HISTORY)
    tokens, codec = AccessTokens(keys), EncryptionCodec(keys, history("eu"))
    await tokens.refresh()
    address = settings.cells["eu"].temporal
    temporal = await connect(address, codec)
    person = f"u_eu_{secrets.token_hex(4)}"
    request = VerifyIdentityInput.model_validate({**example_of(VerifyIdentityInput), "voter_id": "v_eu_told"})
    workflow_id = f"verify-identity/eu/{secrets.token_hex(8)}/1"  # nobody works on it
    handle = await temporal.start_workflow(
        "VerifyIdentity", request, id=workflow_id, task_queue=f"nobody-{secrets.token_hex(4)}"
    )
    owner = await owner_pool("eu")
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with composed(settings) as service:
        serving = asyncio.create_task(
            serve(
                service,
                make_telemetry(settings, "support"),
                stop,
                on_started=lambda _, port: listening.set_result(port),
            )
        )
        try:
            port = await listening

            process = await asyncio.create_subprocess_exec(
                *(Path(sys.executable).parent / "temporal", "workflow", "show", "--output", "json"),
                *("--workflow-id", workflow_id, "--namespace", address.namespace),
                *("--address", f"{address.host}:{address.port}"),
                *("--codec-endpoint", f"http://127.0.0.1:{port}/v1/support/codec"),
                *("--codec-auth", f"Bearer {tokens.staff(person, (Role.SUPPORT,))}"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            async with asyncio.timeout(30), leaves(owner, "support POST /v1/support/codec/decode"):
                said, _ = await process.communicate()
            (given,) = json.loads(said)["events"][0]["workflowExecutionStartedEventAttributes"]["input"]["payloads"]
            assert json.loads(base64.b64decode(given["data"]))["voter_id"] == "v_eu_told"

            sealed = await codec.encode(
                [Payload(metadata={"encoding": b"json/plain"}, data=request.model_dump_json().encode())]
            )
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                for token, code in (
                    (tokens.staff(person, (Role.ADMIN,)), (403, "forbidden")),
                    ("none", (401, "token_invalid")),
                    ("", (401, "unauthenticated")),
                ):
                    headers = {"x-namespace": "eu"} | ({"authorization": f"Bearer {token}"} if token else {})
                    body = {"payloads": [as_json(each) for each in sealed]}
                    assert code_of(await client.post(DECODE, json=body, headers=headers)) == code
        finally:
            stop.set()
            await serving
            await handle.terminate()
    rows = await owner.fetch(
        "SELECT body FROM audit.entry WHERE kind = $1 AND body->>'actor' = $2",
        AuditKind.HISTORY_DECODED.value,
        f"staff:{person}",
    )
    (told,) = [json.loads(row["body"]) for row in rows]
    assert (told["role"], told["facts"]["namespace"], told["facts"]["count"]) == ("support", "eu", 1)


async def test_temporals_ui_asks_while_a_page_of_the_console_is_open_or_with_a_token(
    settings_for: SettingsFor, owner_pool: OwnerPool
) -> None:
    settings = settings_for(IDENTITY, CODEC, STAFFING, codec_origins=frozenset({UI}), public_url=ADDRESS)
    keys = open_keys(settings, ACCESS_TOKEN, STAFF_TOKEN, HISTORY)
    tokens = AccessTokens(keys)
    await tokens.refresh()
    told = Payload(metadata={"encoding": b"json/plain"}, data=DECIDED.model_dump_json().encode())
    body = {"payloads": [as_json(each) for each in await EncryptionCodec(keys, history("eu")).encode([told])]}
    async with AsyncExitStack() as lifetime:
        pools = await identity_pools(settings, lifetime)
        world = await lifetime.enter_async_context(console_world(settings, pools, BASE, TEMPLATES))
        settings = settings.model_copy(update={"staff_provider": world.staff_provider})
        world.serve((await compose(settings, lifetime, make_telemetry(settings, "support"))).app)
        actor, browser = await world.signed_in(Role.SUPPORT)
        bearer = {"authorization": f"Bearer {tokens.staff('u_eu_told', (Role.SUPPORT,))}"}

        async def ask(asker: Browser = browser, **headers: str) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await asker.client.post(DECODE, json=body, headers={"x-namespace": "eu"} | named)

        cookie = browser.cookie
        assert code_of(await ask(origin=UI)) == (401, "unauthenticated")  # signed in, and it was not asked for
        page = await browser.get("/temporal")
        assert f'href="{UI}"' in page.text
        async with leaves(await owner_pool("eu"), "support POST /v1/support/codec/decode"):
            answer = await ask(origin=UI)
        assert shown_in(answer)[0]["person_id"] == "***"
        assert (answer.headers["access-control-allow-origin"], browser.cookie) == (UI, cookie)
        entry = await (await owner_pool("eu")).fetchval(
            "SELECT body FROM audit.entry WHERE kind = 'history.decoded' ORDER BY xid DESC LIMIT 1"
        )
        assert json.loads(entry)["actor"] == actor
        stranger = world.browser()
        assert len(shown_in(await ask(stranger, origin=UI, authorization_extras="an id token", **bearer))) == 1
        assert code_of(await ask(stranger, origin=UI)) == (401, "unauthenticated")
        assert code_of(await ask()) == (401, "unauthenticated")
        assert code_of(await ask(origin=UI, authorization="Bearer none")) == (401, "token_invalid")
        renewed = await browser.get("/temporal/state", **{"HX-Request": "true"})
        assert (renewed.status_code, "__Host-comitia-beside=" in renewed.headers["set-cookie"]) == (204, True)
        thief = world.browser()
        thief.cookie = cookie
        assert code_of(await ask(thief, origin=UI)) == (401, "unauthenticated")
        for origin in (ADDRESS, "https://evil.example.org"):  # a page of the console has no business here either
            assert code_of(await ask(origin=origin)) == (403, "forbidden")
        # A program that its owner gave a pass asks as they do, with a proof for each request
        key, content = ProofKey.generate(), json.dumps(body).encode()
        given = await browser.pass_for(key.jkt)
        proof = make_proof(key, "POST", f"{ADDRESS}{DECODE}", time.time(), token=given, body=content)
        headers = {"x-namespace": "eu", "authorization": f"DPoP {given}", "content-type": "application/json"}
        told_program = await stranger.client.post(DECODE, content=content, headers=headers | {"dpop": proof})
        assert shown_in(told_program)[0]["person_id"] == "***"
        assert code_of(await ask(stranger, origin=UI, authorization=f"Bearer {given}")) == (401, "proof_invalid")
        _, admin = await world.signed_in(Role.ADMIN)
        assert (await admin.get("/temporal")).status_code == 403
        assert code_of(await ask(admin, origin=UI)) == (401, "unauthenticated")
        await browser.submit(await browser.get(), "/sign-out")
        browser.cookie = cookie
        assert code_of(await ask(origin=UI)) == (401, "unauthenticated")
