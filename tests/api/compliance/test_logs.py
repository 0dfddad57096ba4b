"""Audit logs over HTTP: what is answered is checked as a third party would, with the keys and nothing else."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from temporalio.testing import ActivityEnvironment

from activities.audit_sealing import AuditSealingActivities
from api.compliance.composition import compose
from domain.certificates import canonical_json
from domain.checkpoints import open_checkpoint, read_verifier_keys
from domain.contracts.audit import SealAuditLogInput
from domain.log_proofs import read_proof, verify_entry
from domain.merkle import leaf_hash, root
from domain.merkle_proofs import continues, includes
from domain.tokens import Role
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.opening import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, AUDIT_LOG, STAFF_TOKEN
from integrations.keys.signing import LogKeys, is_signed
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.roles import IDENTITY, SEARCH
from integrations.telemetry.telemetry import make_telemetry
from tests.conftest import SettingsFor
from tests.workflows.test_seal_audit_log import Database, Watch

SIZES = (5, 300, 700)


@dataclass
class Officer:
    """The service as it is composed, over a log of its own, and whoever calls it."""

    client: httpx.AsyncClient
    tokens: AccessTokens
    database: Database
    objects: Path

    async def get(self, path: str, *roles: Role, **params: Any) -> httpx.Response:
        token = self.tokens.staff("u_tester", roles or (Role.COMPLIANCE,))
        headers = {"authorization": f"Bearer {token}"}
        return await self.client.get(f"/v1/compliance/logs{path}", params=params or None, headers=headers)

    async def found(self, path: str, **params: Any) -> Any:
        answer = await self.get(path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def keys(self) -> dict[tuple[str, bytes], bytes]:
        return read_verifier_keys((await self.found(""))["verifierKeys"])


@pytest_asyncio.fixture
async def officer(settings_for: SettingsFor, tmp_path: Path) -> AsyncIterator[Officer]:
    settings = settings_for(IDENTITY, SEARCH, objects_folder=tmp_path)
    keys = open_keys(settings, ACCESS_TOKEN, STAFF_TOKEN, AUDIT_LOG)
    tokens, database = AccessTokens(keys), Database()
    await tokens.refresh()
    sealing = AuditSealingActivities(
        {"eu": database},
        FileObjectStore(tmp_path),
        LogKeys(keys, AUDIT_LOG),
        Watch(),
        environment=settings.environment.value,
    )
    environment, request = ActivityEnvironment(), SealAuditLogInput(log="eu")
    for size in SIZES:
        database.write(size - len(database.rows))
        sequenced = await environment.run(sealing.sequence_audit_log, request)
        await environment.run(sealing.sign_audit_head, await environment.run(sealing.write_audit_tiles, sequenced))
    async with AsyncExitStack() as lifetime:
        service = await compose(settings, lifetime, make_telemetry(settings, "compliance"))
        transport = httpx.ASGITransport(service.app)
        client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://officer"))
        yield Officer(client, tokens, database, tmp_path)


async def test_every_log_is_listed_with_how_far_it_is_sealed(officer: Officer) -> None:
    listed = {log["log"]: log["size"] for log in (await officer.found(""))["logs"]}
    assert listed == {"catalogue": 0, "eu": 700, "us": 0}


async def test_the_newest_tree_head_is_a_signed_note(officer: Officer) -> None:
    answer = await officer.get("/eu/checkpoint")
    assert answer.headers["content-type"].startswith("text/plain")
    head = open_checkpoint(answer.content, await officer.keys(), is_signed)
    assert (head.origin, head.size) == ("comitia/test/eu", 700)


@pytest.mark.parametrize(("index", "size"), [(0, None), (255, None), (256, 300), (299, 300), (699, None), (3, 5)])
async def test_an_entry_is_proved_to_whoever_has_the_keys(officer: Officer, index: int, size: int | None) -> None:
    found = await officer.found(f"/eu/entries/{index}", **({} if size is None else {"size": size}))
    entry = canonical_json(found["entry"])
    assert entry == officer.database.rows[index]
    assert (found["index"], found["size"], found["leafHash"]) == (index, size or 700, leaf_hash(entry).hex())
    hashes = [bytes.fromhex(one) for one in found["hashes"]]
    assert includes(leaf_hash(entry), index, found["size"], hashes, bytes.fromhex(found["root"]))
    checks = verify_entry(entry, read_proof(found["proof"].encode()), await officer.keys(), is_signed)
    assert [check.name for check in checks if not check.holds] == []


@pytest.mark.parametrize(
    ("old", "new"), [(5, 300), (300, 700), (299, 300), (1, 700), (256, 700), (512, 700), (700, 700), (0, 5)]
)
async def test_a_tree_is_shown_to_continue_an_earlier_one_and_no_other_answer_is_taken(
    officer: Officer, old: int, new: int
) -> None:
    found = await officer.found("/eu/consistency", **{"from": old, "to": new})
    assert (found["from"], found["to"]) == (old, new)
    hashes = [bytes.fromhex(one) for one in found["hashes"]]
    # The roots from elsewhere: that of the entries themselves, which is what the signed tree head says where one is
    before, after = (root(officer.database.rows[:size]) for size in (old, new))
    assert after.hex() == (await officer.found("/eu/entries/0", size=new))["root"]
    assert continues(old, before, new, after, hashes)
    for place, one in enumerate(hashes):
        assert not continues(old, before, new, after, [*hashes[:place], flipped(one), *hashes[place + 1 :]])
        assert not continues(old, before, new, after, [*hashes[:place], *hashes[place + 1 :]])
    assert not continues(old, before, new, after, [*hashes, bytes(32)])
    if old > 0:
        assert not continues(old, flipped(before), new, after, hashes)
        assert not continues(old, before, new, flipped(after), hashes)
    if 0 < old < new:
        assert not continues(old, after, new, before, hashes)
        assert not continues(old - 1, before, new, after, hashes)
        assert not continues(old, before, new, after, [])


def flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


async def test_a_tree_that_was_changed_before_is_not_shown_to_continue(officer: Officer) -> None:
    """Whoever has kept the head of 300 entries hears of it, although every answer looks as it should."""
    kept = root([*officer.database.rows[:299], b"another entry"])
    found = await officer.found("/eu/consistency", **{"from": 300, "to": 700})
    after = bytes.fromhex((await officer.found("/eu/entries/0"))["root"])
    assert not continues(300, kept, 700, after, [bytes.fromhex(one) for one in found["hashes"]])


@pytest.mark.parametrize(
    "path",
    [
        "/nobodys/checkpoint",
        "/us/checkpoint",
        "/us/entries/0",
        "/eu/entries/700",
        "/eu/entries/5?size=5",
        "/eu/entries/0?size=0",
        "/eu/entries/0?size=6",
        "/eu/entries/0?size=701",
        "/eu/consistency?from=5&to=6",
        "/eu/consistency?from=300&to=5",
    ],
)
async def test_what_is_not_there_is_not_found(officer: Officer, path: str) -> None:
    answer = await officer.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_what_can_be_no_place_or_size_is_refused_as_it_is(officer: Officer) -> None:
    for path in ("entries/{}", "entries/0?size={}", "consistency?from={}&to=300", "consistency?from=5&to={}"):
        for wrong in (-1, 10**12, "x", "1.5"):
            answer = await officer.get(f"/eu/{path.format(wrong)}")
            assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request"), (path, wrong)


async def test_only_who_proves_decisions_reads_logs(officer: Officer) -> None:
    for path in ("", "/eu/checkpoint", "/eu/entries/0", "/eu/consistency?from=5&to=300"):
        assert (await officer.get(path, Role.AUDITOR)).status_code == 200
        assert (await officer.get(path, Role.ADMIN, Role.SUPPORT)).status_code == 403
        assert (await officer.client.get(f"/v1/compliance/logs{path}")).status_code == 401


async def test_a_store_that_was_changed_is_a_fault_and_not_an_answer(officer: Officer) -> None:
    bundle = officer.objects / "logs/eu/tile/entries/000"
    whole = bundle.read_bytes()
    for changed in (b"\xff" + whole[1:], whole.replace(b"votes", b"voted", 1)):
        bundle.write_bytes(changed)
        answer = await officer.get("/eu/entries/0")
        assert (answer.status_code, answer.json()["code"]) == (500, "audit_log_contradicted")
    head = officer.objects / "logs/eu/checkpoints/x000/x000/x000/700"
    head.write_bytes(head.read_bytes().replace(b"\n700\n", b"\n701\n"))
    answer = await officer.get("/eu/checkpoint")
    assert json.loads(answer.content)["code"] == "audit_log_contradicted"
