"""The service `surveys` in this process, over real databases and a real Temporal; cells that can be cut off."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
import httpx
import pytest_asyncio
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.closing import ClosingActivities
from activities.exports import ExportActivities
from activities.steering import SteeringActivities
from activities.surveys import SurveyActivities
from api.console.opening import Console
from api.http.access import Access
from api.http.limits import Limits
from api.http.used_proofs import UsedProofs
from api.surveys.app import create_app
from api.surveys.certification_routes import Certifications
from api.surveys.export_processes import ExportProcesses
from api.surveys.exporting import Exports
from api.surveys.processes import SurveyProcesses
from domain.audit_log import verifier_keys
from domain.contracts.surveys import AnnounceSurveyInput, InstallSurveyInput, Survey, SurveyIntake, SurveyWindow
from domain.errors import DomainError, ErrorCode
from domain.tally import MergedTotals
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.addresses import DatabaseAddress
from integrations.keys import purposes
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.file_kms import FileKms
from integrations.keys.signing import VerificationKeys
from integrations.keys.tokens import TokenVerifier
from integrations.objects.file_store import FileObjectStore
from integrations.postgres.catalogue import PostgresCatalogue
from integrations.postgres.catalogue_exports import PostgresExports
from integrations.postgres.cell_closing import PostgresCellClosing
from integrations.postgres.cell_surveys import PostgresCellSurveys
from integrations.postgres.certifications import PostgresCertifications
from integrations.postgres.findings import CellFindingsReader
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import CLOSING, SURVEYS
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.worker import sandbox
from tests.limits_world import lonely_limits
from workflows.export_results import ExportResultsWorkflow
from workflows.run_survey import RunSurveyWorkflow

CELLS = ("eu", "us")
LOG_KEYS = verifier_keys("test", CELLS, [bytes(range(32))])
PATIENCE_S = 20.0  # nothing here takes long, but the machine may be busy
HASTE_S = 1.5


class CutOffCell:
    """A cell's copies behind a connection that a test can cut."""

    def __init__(self, inner: PostgresCellSurveys) -> None:
        self._inner = inner
        self.is_cut = False
        self.tried = 0

    def _pass(self) -> None:
        self.tried += 1
        if self.is_cut:
            raise DomainError(ErrorCode.LEDGER_UNAVAILABLE, "cut off")

    async def install(self, request: InstallSurveyInput) -> None:
        self._pass()
        await self._inner.install(request)

    async def set_window(self, window: SurveyWindow, now: Callable[[], datetime]) -> None:
        self._pass()
        await self._inner.set_window(window, now)

    async def set_intake(self, request: SurveyIntake) -> None:
        await self._inner.set_intake(request)

    async def get(self, survey_id: str) -> Survey | None:
        return await self._inner.get(survey_id)


class Announcements:
    """What was announced; refuses while `is_down`."""

    def __init__(self) -> None:
        self.heard: list[AnnounceSurveyInput] = []
        self.is_down = False

    async def announce(self, request: AnnounceSurveyInput) -> None:
        if self.is_down:
            raise DomainError(ErrorCode.BROKER_UNAVAILABLE)
        self.heard.append(request)


class Totals:
    """The totals that exports find."""

    def __init__(self) -> None:
        self.merged = MergedTotals(positions={}, counts={})
        self.is_down = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def totals(self, survey_id: str) -> MergedTotals:
        assert survey_id
        await self.goes_on.wait()
        if self.is_down:
            raise DomainError(ErrorCode.TALLY_UNAVAILABLE)
        return self.merged


class NoProofs:
    """Staff tokens of these tests are not bound."""

    def verify(self, proof: bytes, **_: Any) -> bytes:
        raise DomainError(ErrorCode.PROOF_INVALID)


@dataclass
class Platform:
    """Everything around the application, for one module of tests."""

    catalogue: PostgresCatalogue
    exports: PostgresExports
    findings: CellFindingsReader
    cells: dict[str, CutOffCell]
    certifications: PostgresCertifications
    closing: dict[str, PostgresCellClosing]
    announcements: Announcements
    client: Client
    kms: FileKms
    settings: Settings
    access: Access
    tokens: AccessTokens
    results: Totals
    objects: FileObjectStore
    limits: Limits
    queue: str = field(default_factory=lambda: f"surveys-{secrets.token_hex(4)}")
    kept: dict[float, FastAPI] = field(default_factory=dict)

    def worker(self) -> Worker:
        """Return a worker of the queue `surveys`, not started; one that replays every task is in `tests/workflows`."""
        activities = SurveyActivities(self.catalogue, self.kms, self.cells, self.announcements)
        exports = ExportActivities(self.catalogue, self.exports, self.results, self.objects)
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[RunSurveyWorkflow, ExportResultsWorkflow],
            activities=[
                *activities.all(),
                *SteeringActivities(self.catalogue, self.cells).all(),
                *ClosingActivities(self.certifications, self.closing).all(),
                *exports.all(),
            ],
            workflow_runner=sandbox(),
            deployment_config=WorkerDeploymentConfig(
                version=WorkerDeploymentVersion("tests", "1"), use_worker_versioning=False
            ),
        )

    def application(self, console: Console | None = None, **processes: Any) -> FastAPI:
        """Return the application of a fresh process."""
        options = {"queue": self.queue, "patience_s": PATIENCE_S, **processes}
        return create_app(
            self.catalogue,
            SurveyProcesses(self.client, CELLS, **options),
            Exports(self.exports, ExportProcesses(self.client, queue=self.queue), self.objects),
            self.findings,
            self.access.require_role(Role.ADMIN),
            limits=self.limits,
            telemetry=make_telemetry(self.settings, "surveys"),
            certifications=Certifications(self.certifications, self.objects, dict, lambda: LOG_KEYS),
            console=console,
        )

    def http(self, token: str | None = None, **processes: Any) -> httpx.AsyncClient:
        """Return a client of a fresh application process."""
        return self._client(self.application(**processes), token)

    def kept_http(self, token: str | None = None, patience_s: float = PATIENCE_S) -> httpx.AsyncClient:
        """Return a client of one process of so much patience, the same for every test of the module."""
        if patience_s not in self.kept:
            self.kept[patience_s] = self.application(patience_s=patience_s)
        return self._client(self.kept[patience_s], token)

    def _client(self, app: FastAPI, token: str | None) -> httpx.AsyncClient:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://surveys.test", headers=headers)

    def staff(self, *roles: Role) -> str:
        """Return a staff token."""
        return self.tokens.staff("u_tester", roles or (Role.ADMIN,))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(settings_for: Callable[..., Settings]) -> AsyncIterator[Platform]:
    settings = settings_for(SURVEYS, CLOSING)
    assert settings.catalogue is not None
    assert settings.platform_temporal is not None
    assert settings.keys_folder is not None
    assert settings.objects_folder is not None
    in_flight = purposes.in_flight("platform")
    kms = FileKms(
        settings.keys_folder,
        frozenset({"kek/ballot", "kek/eligibility", in_flight, purposes.STAFF_TOKEN, purposes.ACCESS_TOKEN}),
    )
    tokens = AccessTokens(kms)
    await tokens.refresh()
    staff_keys = VerificationKeys(kms, purposes.STAFF_TOKEN)
    voter_keys = VerificationKeys(kms, purposes.ACCESS_TOKEN)
    await staff_keys.refresh()
    await voter_keys.refresh()
    limits = lonely_limits()
    access = Access(
        staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff_keys),
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, voter_keys),
        proofs=NoProofs(),
        used=UsedProofs({}),
        limits=limits,
        metrics=AuthMetrics(CollectorRegistry()),
    )
    async with AsyncExitStack() as opened:

        async def pool(address: DatabaseAddress, role: str = SURVEYS) -> asyncpg.Pool:
            made = await open_pool(address, settings, role)
            opened.push_async_callback(made.close)
            return made

        catalogue_pool = await pool(settings.catalogue)
        pools = {cell: await pool(settings.cells[cell].database) for cell in CELLS}
        yield Platform(
            catalogue=PostgresCatalogue(catalogue_pool),
            exports=PostgresExports(catalogue_pool),
            findings=CellFindingsReader(pools),
            results=Totals(),
            objects=FileObjectStore(settings.objects_folder),
            cells={cell: CutOffCell(PostgresCellSurveys(pools[cell])) for cell in CELLS},
            certifications=PostgresCertifications(await pool(settings.catalogue, CLOSING)),
            closing={
                cell: PostgresCellClosing(await pool(settings.cells[cell].database, CLOSING), cell) for cell in CELLS
            },
            announcements=Announcements(),
            client=await connect(settings.platform_temporal, EncryptionCodec(kms, in_flight)),
            kms=kms,
            settings=settings,
            access=access,
            tokens=tokens,
            limits=limits,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def working(platform: Platform) -> AsyncIterator[Platform]:
    """The platform with a worker."""
    async with platform.worker():
        yield platform


@pytest_asyncio.fixture(loop_scope="session")
async def admin(working: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """A client of staff who may manage surveys; the worker runs."""
    async with working.kept_http(working.staff()) as client:
        yield client
    for cell in working.cells.values():
        cell.is_cut = False
    working.announcements.is_down = False


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(working: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """The same, but does not wait long for a cell."""
    async with working.kept_http(working.staff(), HASTE_S) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def anyone(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with platform.kept_http() as client:
        yield client
