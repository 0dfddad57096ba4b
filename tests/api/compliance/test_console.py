"""The pages of compliance as a browser gets them: a replay of a real execution, and proofs from a sealed log."""

import asyncio
import re
import secrets
import tarfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from starlette.types import ASGIApp
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Worker

from activities.audit_sealing import AuditSealingActivities
from activities.rejudging import RejudgingActivities
from activities.replaying import ReplayActivities
from activities.voting import VotingActivities
from api.compliance.composition import BASE, TEMPLATES, compose
from api.compliance.evidence import Asked
from api.compliance.pages import CompliancePages, add_compliance_pages
from api.compliance.rejudgements import RejudgementDesk
from api.compliance.replays import ReplayDesk
from api.compliance.work_pages import WorkDesks, WorkPages, add_work_pages
from api.http.application import create_application
from domain.audit_log import origin_of
from domain.checkpoints import read_verifier_keys, verifier_key
from domain.contracts.audit import SealAuditLogInput
from domain.contracts.rejudging import DecisionProcess
from domain.errors import DomainError, ErrorCode
from domain.log_proofs import read_proof, verify_entry
from domain.tokens import Role
from integrations.identity_cell import identity_pools, open_identity_cell
from integrations.keys.opening import open_keys
from integrations.keys.purposes import AUDIT_LOG, DAILY, HISTORY, in_flight
from integrations.keys.signing import LogKeys, is_signed
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.replays import PostgresReplays
from integrations.postgres.roles import IDENTITY, SEARCH, STAFFING
from integrations.settings import Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.worker import sandbox
from tests.api.compliance.test_rejudgements import cell_of as rejudging_cell_of
from tests.api.compliance.test_replays import cell_of as replay_cell_of
from tests.audited import PAGES, leaves
from tests.comitia.test_replay import Ledger, submit
from tests.conftest import OwnerPool, SettingsFor
from tests.console_world import ADDRESS, Browser, ConsoleWorld, changing_routes, console_world, forms_of
from tests.limits_world import lonely_limits
from tests.upgrade.release import ARCHIVE
from tests.vote_workers import vote_worker
from tests.workflows.test_rejudge_decisions import SINCE, SOON, Kept
from tests.workflows.test_replay_executions import Executions
from tests.workflows.test_seal_audit_log import Database, Watch
from workflows.rejudge_decisions import RejudgeDecisionsWorkflow
from workflows.replay_executions import ReplayExecutionsWorkflow

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
    settings = settings_for(
        IDENTITY, STAFFING, SEARCH, objects_folder=folder, public_url=address, releases=folder / "releases"
    )
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
        settings = settings.model_copy(update={"staff_provider": world.staff_provider})
        service = await compose(settings, lifetime, make_telemetry(settings, "compliance"))
        world.serve(service.app)
        yield Office(world, settings, database, keys, pools, service.app)


async def test_an_execution_is_replayed_and_nothing_of_what_it_says_is_shown(office: Office) -> None:
    ledger = Ledger()
    workflow_id = await voted(office.settings, ledger)
    calls = ledger.calls
    _, browser = await office.world.signed_in(Role.COMPLIANCE)
    page = await browser.get()
    same = await replayed(browser, page, workflow=workflow_id)
    assert ("<strong>same</strong>" in same.text, "a choice" in same.text) == (True, False)
    assert ledger.calls == calls
    gone = await replayed(browser, page, workflow="submit-votes/eu/nothing")
    assert ("<strong>cannot</strong>" in gone.text, "history_gone" in gone.text) == (True, True)
    archived = await replayed(browser, page, workflow=workflow_id, archived="yes")  # votes never are
    assert ("<dd>the archive</dd>" in archived.text, "history_gone" in archived.text) == (True, True)
    assert "<dd>the server</dd>" in same.text
    listed = await browser.get()
    assert listed.text.count("<td>finished</td>") >= 2
    for workflow, status in (("submit-votes/nowhere/x", 404), ("<script>", 400), ("a b", 400), ("", 400)):
        assert (await browser.submit(page, "/replays", workflow=workflow)).status_code == status
    assert (await browser.submit(page, "/replays", workflow=workflow_id, run="x")).status_code == 400
    assert (await browser.submit(page, "/replays", workflow=workflow_id, code="HEAD")).status_code == 400
    for wrong in ({"from": "x"}, {"from": "2026-01-01T00:00", "to": "2999-01-01T00:00"}, {"type": "a b"}):
        period = {"cell": "eu", "from": "2026-01-01T00:00", "to": "2026-01-01T01:00", **wrong}
        assert (await browser.submit(page, "/replays", **period)).status_code == 400
    assert (await browser.get("/replays/w_eu_nothing")).status_code == 404


async def voted(settings: Settings, ledger: Ledger) -> str:
    """Return the id of an execution that has recorded a vote."""
    codec = EncryptionCodec(open_keys(settings, DAILY), in_flight("eu"))
    client = await connect(settings.cells["eu"].temporal, codec)
    async with vote_worker(client, VotingActivities(ledger, ledger)) as queue:
        handle = await submit(client, queue)
        await handle.result()
    return handle.id


async def test_an_execution_is_replayed_with_the_release_that_it_records(office: Office) -> None:
    ledger = Ledger()
    order = {"workflow": await voted(office.settings, ledger), "code": "recorded"}
    _, browser = await office.world.signed_in(Role.COMPLIANCE)
    page = await browser.get()
    missing = await replayed(browser, page, **order)
    assert ("<strong>cannot</strong>" in missing.text, "release_not_at_hand" in missing.text) == (True, True)
    build = store_release(office.settings, missing.text)
    same = await replayed(browser, page, **order)
    assert ("<strong>same</strong>" in same.text, f"code {build}" in same.text) == (True, True)
    this = await replayed(browser, page, **{**order, "code": "this"})
    assert ("<strong>same</strong>" in this.text, f"code {build}" in this.text) == (True, False)
    assert ledger.calls == 1


def store_release(settings: Settings, page: str) -> str:
    """Store another release as the build that a page says is not at hand; return that."""
    named = re.search(r", code ([A-Za-z0-9._-]+)", page)
    assert named is not None, page
    assert settings.releases is not None
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(settings.releases / named[1], filter="data")
    return named[1]


async def replayed(browser: Browser, page: httpx.Response, **order: str) -> httpx.Response:
    """Ask for a replay, and look until it has ended."""
    shown = await browser.submit(page, "/replays", **order, key=secrets.token_urlsafe(16))
    async with asyncio.timeout(60):
        while "<strong>running</strong>" in shown.text:
            await asyncio.sleep(0.1)
            shown = await browser.client.get(shown.url)
    assert "<strong>finished</strong>" in shown.text, shown.text
    assert "Cancel it" not in shown.text
    return shown


@asynccontextmanager
async def long_work(
    office: Office, executions: Executions, logins: Kept, address: str = ADDRESS
) -> AsyncIterator[tuple[ConsoleWorld, ASGIApp]]:
    """Serve the pages of compliance, and do what they ask for with executions and logins of a test."""
    settings, queue = office.settings, f"work-{secrets.token_hex(4)}"
    cell = await open_identity_cell("eu", settings, open_keys(settings, HISTORY), office.pools["eu"])
    replays = ReplayDesk(settings.cells, replay_cell_of(cell, queue))
    rejudgements = RejudgementDesk(rejudging_cell_of(cell, queue))
    activities = [
        *ReplayActivities(PostgresReplays(cell.pool), executions).all(),
        *RejudgingActivities({DecisionProcess.LOGIN: logins}).all(),
    ]
    async with (
        console_world(settings, office.pools, BASE, TEMPLATES, address=address) as world,
        Worker(
            cell.temporal,
            task_queue=queue,
            workflows=[ReplayExecutionsWorkflow, RejudgeDecisionsWorkflow],
            activities=activities,
            workflow_runner=sandbox(),
        ),
    ):
        add_compliance_pages(world.console, CompliancePages(world.console, Logs(), Evidence(), replays))  # type: ignore[arg-type]  # fakes
        add_work_pages(world.console, WorkPages(world.console, WorkDesks(replays, rejudgements)), lonely_limits())
        app = create_application("compliance", make_telemetry(settings, "compliance"), forms_below=BASE)
        app.include_router(world.console.router)
        world.serve(app)
        yield world, app


async def test_long_work_is_cancelled_by_a_form(office: Office, owner_pool: OwnerPool) -> None:
    away = 10**6
    async with long_work(office, Executions(away=away), Kept(away=away)) as (world, _):
        _, browser = await world.signed_in(Role.COMPLIANCE)
        first = await browser.get()
        period = {"cell": "eu", "from": "2026-01-01T00:00", "to": "2026-01-01T01:00"}
        owner = await owner_pool("eu")
        async with leaves(owner, "compliance POST /console/compliance/replays"):
            replay = await browser.submit(first, "/replays", **period)
        question = {"cell": "eu", "process": "login", "from": SINCE.isoformat(), "to": SOON.isoformat()}
        for wrong in ({"policy": "x"}, {"policy": "[]"}, {"policy": '{"version": 4711}'}, {"from": "x"}, {"to": ""}):
            assert (await browser.submit(first, "/rejudgements/new", **{**question, **wrong})).status_code == 400
        async with leaves(owner, "compliance POST /console/compliance/rejudgements/new"):
            asked = await browser.submit(first, "/rejudgements/new", **question)
        rejudgement = await browser.submit(first, "/rejudgements", rejudgement=asked.url.path.rpartition("/")[2])
        cancels = (
            leaves(owner, "compliance POST /console/compliance/replays/{work_id}/cancel"),
            leaves(owner, "compliance POST /console/compliance/rejudgements/{work_id}/cancel"),
        )
        for page, seen in zip((replay, rejudgement), cancels, strict=True):
            assert "<strong>running</strong>" in page.text, page.text
            watched = page.text.partition('hx-get="')[2].partition('"')[0].replace("&amp;", "&")
            assert (await browser.client.get(watched)).status_code == 204
            async with seen:
                cancelled = await browser.submit(page, "/cancel")
            assert "<strong>cancelled</strong>" in cancelled.text, cancelled.text
            assert "Cancel it" not in cancelled.text
            again = await browser.submit(page, "/cancel")  # the page that is still open elsewhere
            assert "<strong>cancelled</strong>" in again.text
            live = await browser.client.get(watched)
            assert ("<strong>cancelled</strong>" in live.text, "hx-get" in live.text) == (True, False)


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


class NoReplays:
    """No cell, and so no replay."""

    cells = ()


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
    parts: tuple[Any, ...] = (Logs(), evidence, NoReplays())
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
    unserved: Any = WorkDesks(None, None)  # type: ignore[arg-type]
    add_work_pages(office.world.console, WorkPages(office.world.console, unserved), lonely_limits())
    assert changing_routes(office.world.console) == listed
    async with leaves(await owner_pool("eu"), "compliance GET /console/compliance/back"):
        _, auditor = await office.world.signed_in(Role.AUDITOR)
    async with leaves(await owner_pool("eu"), "compliance POST /console/compliance/pass"):
        assert (await auditor.submit(await auditor.get("/pass"), "/pass", thumbprint="a" * 43)).status_code == 200
    token = forms_of(await auditor.get())[0].fields["token"]
    for path in ("/replays", "/replays/x/cancel", "/rejudgements", "/rejudgements/new", "/rejudgements/x/cancel"):
        assert (await auditor.post(f"{BASE}{path}", {"token": token, "workflow": "a/b"})).status_code == 403
    assert (await auditor.get("/replays/x")).status_code == 403
    for role in (Role.SUPPORT, Role.ADMIN):
        _, other = await office.world.signed_in(role)
        for path in ("", "/entries?log=eu&index=1", "/proof?log=eu&index=1", "/replays/x", "/rejudgements/x/state"):
            assert (await other.get(path)).status_code == 403
