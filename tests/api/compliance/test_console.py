"""The pages of compliance as a browser gets them: a replay of a real execution, and proofs from a sealed log."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities.audit_sealing import AuditSealingActivities
from activities.voting import VotingActivities
from api.compliance.composition import BASE, TEMPLATES, compose
from domain.audit_log import origin_of
from domain.checkpoints import read_verifier_keys, verifier_key
from domain.contracts.audit import SealAuditLogInput
from domain.log_proofs import read_proof, verify_entry
from domain.tokens import Role
from integrations.identity_cell import identity_pools
from integrations.keys.file_kms import open_keys
from integrations.keys.purposes import AUDIT_LOG, DAILY, in_flight
from integrations.keys.signing import LogKeys, is_signed
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.roles import IDENTITY
from integrations.settings import Settings, StaffProviderSettings
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.worker import sandbox
from tests.audited import PAGES
from tests.comitia.test_replay import Ledger, submit
from tests.conftest import SettingsFor
from tests.console_world import ADDRESS, ConsoleWorld, changing_routes, console_world, forms_of
from tests.workflows.test_seal_audit_log import Database, Watch
from workflows.submit_votes import SubmitVotesWorkflow

SIZE = 40


@dataclass
class Office:
    """The service as it is composed, and a log of its own."""

    world: ConsoleWorld
    settings: Settings
    database: Database
    log_keys: LogKeys


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(settings_for: SettingsFor, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    folder = tmp_path_factory.mktemp("objects")
    settings = settings_for(IDENTITY, objects_folder=folder, public_url=ADDRESS)
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
        world = await lifetime.enter_async_context(console_world(settings, pools, BASE, TEMPLATES))
        issuer = {name: value for name, value in world.issuer.settings if name != "redirect_uri"}
        settings = settings.model_copy(update={"staff_provider": StaffProviderSettings(**issuer)})
        service = await compose(settings, lifetime, make_telemetry(settings, "compliance"))
        world.serve(service.app)
        yield Office(world, settings, database, keys)


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


async def test_each_role_sees_its_own_pages_and_every_changing_one_has_its_entry_or_a_reason(office: Office) -> None:
    listed = {name.removeprefix("compliance ") for name in PAGES if name.startswith("compliance ")}
    assert changing_routes(office.world.console) | {f"POST {BASE}/replays"} == listed
    _, auditor = await office.world.signed_in(Role.AUDITOR)
    token = forms_of(await auditor.get())[0].fields["token"]
    assert (await auditor.post(f"{BASE}/replays", {"token": token, "workflow": "a/b"})).status_code == 403
    for role in (Role.SUPPORT, Role.ADMIN):
        _, other = await office.world.signed_in(role)
        for path in ("", "/entries?log=eu&index=1", "/proof?log=eu&index=1"):
            assert (await other.get(path)).status_code == 403
