"""The pages of compliance as a browser gets them: a replay of a real execution, and proofs from a sealed log."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from starlette.types import ASGIApp
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities.audit_sealing import AuditSealingActivities
from activities.voting import VotingActivities
from api.compliance.composition import BASE, TEMPLATES, compose
from api.compliance.evidence import Asked
from api.compliance.pages import CompliancePages, add_compliance_pages
from api.http.application import create_application
from domain.audit_log import origin_of
from domain.checkpoints import read_verifier_keys, verifier_key
from domain.contracts.audit import SealAuditLogInput
from domain.errors import DomainError, ErrorCode
from domain.log_proofs import read_proof, verify_entry
from domain.tokens import Role
from integrations.identity_cell import identity_pools
from integrations.keys.file_kms import open_keys
from integrations.keys.purposes import AUDIT_LOG, DAILY, in_flight
from integrations.keys.signing import LogKeys, is_signed
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.roles import IDENTITY, SEARCH
from integrations.settings import Settings, StaffProviderSettings
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.worker import sandbox
from tests.audited import PAGES, leaves
from tests.comitia.test_replay import Ledger, submit
from tests.conftest import OwnerPool, SettingsFor
from tests.console_world import ADDRESS, ConsoleWorld, changing_routes, console_world, forms_of
from tests.workflows.test_seal_audit_log import Database, Watch
from workflows.submit_votes import SubmitVotesWorkflow

SIZE, CASE = 40, "r_eu_aaaaaaaaaaaaaaaaaaaaaaaaaa"


@dataclass
class Office:
    """The service as it is composed, and a log of its own."""

    world: ConsoleWorld
    settings: Settings
    database: Database
    log_keys: LogKeys
    pools: dict[str, asyncpg.Pool]
    app: ASGIApp


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(settings_for: SettingsFor, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    async with open_office(settings_for, tmp_path_factory.mktemp("objects"), ADDRESS) as opened:
        yield opened


@asynccontextmanager
async def open_office(settings_for: SettingsFor, folder: Path, address: str) -> AsyncIterator[Office]:
    settings = settings_for(IDENTITY, SEARCH, objects_folder=folder, public_url=address)
    keys, database = LogKeys(open_keys(settings, AUDIT_LOG), AUDIT_LOG), Database()
    sealing = AuditSealingActivities(
        {"eu": database}, FileObjectStore(folder), keys, Watch(), environment=settings.environment.value
    )
    environment, request = ActivityEnvironment(), SealAuditLogInput(log="eu")
    database.write(SIZE)
    sequenced = await environment.run(sealing.sequence_audit_log, request)
    await environment.run(sealing.sign_audit_head, await environment.run(sealing.write_audit_tiles, sequenced))
    async with AsyncExitStack() as lifetime:
        pools = await identity_pools(settings, lifetime)
        world = await lifetime.enter_async_context(console_world(settings, pools, BASE, TEMPLATES, address=address))
        issuer = {name: value for name, value in world.issuer.settings if name not in {"redirect_uri", "auth_time"}}
        settings = settings.model_copy(update={"staff_provider": StaffProviderSettings(**issuer)})
        service = await compose(settings, lifetime, make_telemetry(settings, "compliance"))
        world.serve(service.app)
        yield Office(world, settings, database, keys, pools, service.app)


async def test_an_execution_is_replayed_and_nothing_of_what_it_says_is_shown(office: Office) -> None:
    settings, queue, ledger = office.settings, f"votes-{secrets.token_hex(4)}", Ledger()
    codec = EncryptionCodec(open_keys(settings, DAILY), in_flight("eu"))
    client = await connect(settings.cells["eu"].temporal, codec)
    activities = VotingActivities(ledger, ledger)
    async with Worker(
        client,
        task_queue=queue,
        workflows=[SubmitVotesWorkflow],
        activities=[activities.record_votes, activities.announce_votes],
        workflow_runner=sandbox(),
    ):
        handle = await submit(client, queue)
        await handle.result()
    calls = ledger.calls
    _, browser = await office.world.signed_in(Role.COMPLIANCE)
    page = await browser.get()
    same = await browser.submit(page, "/replays", workflow=handle.id)
    assert (same.status_code, "<strong>same</strong>" in same.text) == (200, True)
    form = next(form for form in forms_of(page) if form.action.endswith("/replays"))
    part = await browser.post(form.action, {**form.fields, "workflow": handle.id}, hx_request="true")
    assert ("<strong>same</strong>" in part.text, "<html" in part.text, "a choice" in part.text) == (True, False, False)
    assert ledger.calls == calls
    gone = await browser.submit(page, "/replays", workflow="submit-votes/eu/nothing")
    assert ("<strong>cannot</strong>" in gone.text, "history_gone" in gone.text) == (True, True)
    for workflow, status in (("submit-votes/nowhere/x", 404), ("<script>", 400), ("a b", 400)):
        assert (await browser.submit(page, "/replays", workflow=workflow)).status_code == status
    assert (await browser.submit(page, "/replays", workflow=handle.id, run="x")).status_code == 400


async def test_an_entry_is_shown_with_a_proof_that_anybody_can_check(office: Office) -> None:
    _, browser = await office.world.signed_in(Role.AUDITOR)
    page = await browser.get()
    assert f"<td>{SIZE}</td>" in page.text
    assert [form.action for form in forms_of(page) if form.action.endswith("/replays")] == []
    shown = await browser.submit(page, "/entries", log="eu", index="7")
    assert shown.status_code == 200, shown.text
    file = await browser.get("/proof?log=eu&index=7&size=")
    assert file.headers["content-disposition"] == 'attachment; filename="eu-7.tlog-proof"'
    origin = origin_of(office.settings.environment.value, "eu")
    keys = read_verifier_keys([verifier_key(origin, key) for key in await office.log_keys.public_keys()])
    checks = verify_entry(office.database.rows[7], read_proof(file.content), keys, is_signed)
    assert [check.name for check in checks if not check.holds] == []
    for asked in ("log=nobodys&index=1", "log=us&index=0", f"log=eu&index={SIZE}", "log=eu&index=1&size=3"):
        for path in ("/entries", "/proof"):
            assert (await browser.get(f"{path}?{asked}")).status_code == 404
    for asked in ("", "log=eu", "log=eu&index=x", "log=eu&index=-1", "log=eu&index=1&size=x"):
        assert (await browser.get(f"/entries?{asked}")).status_code in {400, 404}


class Logs:
    """Logs of which nothing is sealed."""

    async def all(self) -> list[Any]:
        return []


class Evidence:
    """Hands out the same for every case, and keeps who asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    async def export(self, asked: Asked) -> bytes:
        self.asked.append(asked)
        if asked.case_id != CASE:
            raise DomainError(ErrorCode.CASE_NOT_FOUND)
        return b"a bundle"


async def test_the_evidence_of_a_case_is_a_file_that_its_taker_asked_for_with_a_reason(office: Office) -> None:
    evidence, settings = Evidence(), office.settings
    parts: tuple[Any, ...] = (Logs(), evidence, None)
    async with console_world(settings, office.pools, BASE, TEMPLATES) as world:
        add_compliance_pages(world.console, CompliancePages(world.console, *parts))
        app = create_application("compliance", make_telemetry(settings, "compliance"), forms_below=BASE)
        app.include_router(world.console.router)
        world.serve(app)
        actor, browser = await world.signed_in(Role.COMPLIANCE)
        page = await browser.get()
        taken = await browser.submit(page, "/bundles", case=CASE, reason="court")
        assert (taken.content, taken.headers["content-type"]) == (b"a bundle", "application/zip")
        assert taken.headers["content-disposition"] == f'attachment; filename="{CASE}.zip"'
        (asked,) = evidence.asked
        assert (asked.case_id, asked.reason.value, asked.actor) == (CASE, "court", actor)
        assert len(asked.key) >= 16
        assert (await browser.submit(page, "/bundles", case="x", reason="court")).status_code == 404
        for wrong in ({"reason": ""}, {"reason": "curiosity"}, {"case": ""}, {"key": "x"}):
            fields = {"case": CASE, "reason": "court", **wrong}
            assert (await browser.submit(page, "/bundles", **fields)).status_code == 400
        assert len(evidence.asked) == 2


async def test_each_role_sees_its_own_pages_and_every_changing_one_has_its_entry_or_a_reason(
    office: Office, owner_pool: OwnerPool
) -> None:
    listed = {name.removeprefix("compliance ") for name in PAGES if name.startswith("compliance ")}
    nothing: tuple[Any, ...] = (None, None, None)
    add_compliance_pages(office.world.console, CompliancePages(office.world.console, *nothing))  # it is not served
    assert changing_routes(office.world.console) == listed
    async with leaves(await owner_pool("eu"), "compliance GET /console/compliance/back"):
        _, auditor = await office.world.signed_in(Role.AUDITOR)
    token = forms_of(await auditor.get())[0].fields["token"]
    assert (await auditor.post(f"{BASE}/replays", {"token": token, "workflow": "a/b"})).status_code == 403
    for role in (Role.SUPPORT, Role.ADMIN):
        _, other = await office.world.signed_in(role)
        for path in ("", "/entries?log=eu&index=1", "/proof?log=eu&index=1"):
            assert (await other.get(path)).status_code == 403
