"""Wires the service `compliance`: it reads, and writes who came in, what was exported or asked, and verdicts."""

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import asyncpg

from api.background import run_beside
from api.compliance.app import ConsoleDesks, Evidence, create_app
from api.compliance.evidence_cells import bundle_keys, evidence_desk
from api.compliance.logs import LogDesk
from api.compliance.rejudgement_routes import rejudgement_routes
from api.compliance.rejudgements import RejudgementDesk, RejudgingCell, rejudging_cell
from api.compliance.replay_routes import replay_routes
from api.compliance.replay_serving import ReplayWorkers
from api.compliance.replays import ReplayCell, ReplayDesk, replay_cell
from api.compliance.search_routes import search_routes
from api.compliance.searching import SearchDesk
from api.compliance.work_pages import WorkDesks
from api.composition import Service
from api.console.opening import ConsoleParts, open_console, staff_passes
from api.console.visits import Site
from api.http.access import Access
from api.http.limits_opening import open_limits
from api.http.sign_ins import SignIns
from api.http.used_proofs_opening import open_used_proofs
from domain.audit import CATALOGUE_LOG
from domain.replay import ReplayCode
from domain.submissions import SubmissionIds
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.identity_cell import IdentityCells, identity_pools
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import (
    ACCESS_TOKEN,
    AUDIT_LOG,
    BUNDLE,
    CONSOLE,
    DAILY,
    HISTORY,
    LIMITS,
    LOOKUP,
    STAFF_TOKEN,
    SUBMISSION,
    public,
)
from integrations.keys.signing import LogKeys, VerificationKeys, keep_fresh
from integrations.keys.tokens import TokenVerifier
from integrations.objects.log_objects import open_log_objects
from integrations.postgres.api_clients import ApiClients
from integrations.postgres.archived_histories import PostgresArchive
from integrations.postgres.log_search import PostgresLogSearch
from integrations.postgres.pool import pool_on_demand
from integrations.postgres.roles import SEARCH
from integrations.postgres.staff_sign_ins import PostgresStaffSignIns
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.replay_code import OneCode, RecordedCode, Replayer
from integrations.temporal.replay_judging import NamespaceHistories, PooledJudge
from integrations.temporal.replay_releases import Code, StoredReleases
from workflows.registry import WORKFLOWS

BASE: Final = "/console/compliance"  # of its pages
TEMPLATES: Final = Path(__file__).parent / "templates"
_STATEMENT_TIMEOUT_S: Final = 4.0


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    public_url = settings.public_url or f"http://{settings.listen_host}:{settings.listen_port}"
    tokens = map(public, (STAFF_TOKEN, ACCESS_TOKEN, AUDIT_LOG))
    keys = open_keys(
        settings, *tokens, BUNDLE, LIMITS, LOOKUP, CONSOLE, HISTORY, DAILY, SUBMISSION, waiting=telemetry.waiting
    )
    staff_keys, voter_keys = VerificationKeys(keys, STAFF_TOKEN), VerificationKeys(keys, ACCESS_TOKEN)
    for held in (staff_keys, voter_keys):
        await held.refresh()
    run_beside(lifetime, keep_fresh(staff_keys, voter_keys))
    limits = await open_limits(settings, keys, lifetime, telemetry)
    pools = await identity_pools(settings, lifetime, waiting=telemetry.waiting)
    metrics = AuthMetrics(telemetry.registry)
    used = open_used_proofs(settings, lifetime, telemetry)
    access = Access(
        staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff_keys),
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, voter_keys),
        proofs=RequestProofs(DpopVerifier(), public_url),
        used=used,
        limits=limits,
        metrics=metrics,
        clients=ApiClients(pools),
        passes=staff_passes(keys, pools),
        sign_ins=SignIns("compliance", {cell: PostgresStaffSignIns(pool) for cell, pool in pools.items()}),
    )
    cells = IdentityCells(settings, keys, telemetry)
    # Archives of releases are unpacked there, where there are any
    scratch = lifetime.enter_context(TemporaryDirectory(prefix="comitia-code-")) if settings.releases else ""
    objects = open_log_objects(settings)
    archives = {cell: PostgresArchive(pool) for cell, pool in pools.items()}
    histories = NamespaceHistories(settings, keys, archives, objects)
    judge = PooledJudge(histories, partial(_replayer, settings, Path(scratch)))
    lifetime.callback(judge.close)
    await cells.open(lifetime, ReplayWorkers(settings, judge).serve)
    desk = LogDesk(
        objects,
        LogKeys(keys, AUDIT_LOG),
        {*settings.cells, CATALOGUE_LOG},
        settings.environment.value,
    )

    telemetry.readiness.add("logs", desk.is_reachable)
    officers = access.require_role(Role.COMPLIANCE, Role.AUDITOR)
    places, ids = await _places(settings, lifetime, telemetry), SubmissionIds((await keys.current(SUBMISSION)).secret)
    evidence = Evidence(
        evidence_desk(settings, keys, objects, cells.of, ids=ids, places=places),
        partial(bundle_keys, settings, keys),
        access.require_role(Role.COMPLIANCE),
    )

    def cell_of(name: str | None) -> RejudgingCell:
        return rejudging_cell(cells.of(name))

    search = SearchDesk({log: PostgresLogSearch(pool) for log, pool in places.items()}, desk.readings)

    def replays_of(name: str | None) -> ReplayCell:
        return replay_cell(cells.of(name))

    rejudging, replays = RejudgementDesk(cell_of), ReplayDesk(settings.cells, replays_of)
    more = [
        search_routes(search, officers),
        rejudgement_routes(rejudging, access.require_role(Role.COMPLIANCE), limits),
        replay_routes(replays, access.require_role(Role.COMPLIANCE), limits),
    ]
    site = Site(public_url, BASE, settings.console_links)
    parts = ConsoleParts(keys, KeyedLookupHashes(keys), pools, limits, metrics, used)
    console = await open_console(settings, site, TEMPLATES, parts, lifetime)
    app = create_app(
        desk,
        officers,
        evidence,
        more,
        telemetry=telemetry,
        public_url=settings.public_url,
        console=None if console is None else ConsoleDesks(console, WorkDesks(replays, rejudging), search, limits),
    )
    return Service(app)


def _replayer(settings: Settings, scratch: Path, code: ReplayCode) -> Replayer:
    """Return what replays with some code; of other releases it has what was stored here by their builds alone."""
    if code is ReplayCode.RECORDED:
        own = settings.build if "build" in settings.model_fields_set else ""
        return RecordedCode(StoredReleases(own, scratch, settings.releases), WORKFLOWS, processes=1)
    return OneCode(Code(settings.build), WORKFLOWS, processes=1)


async def _places(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> dict[str, asyncpg.Pool]:
    """Return what finds places in the log of every cell and of the catalogue; none is asked before it is needed."""
    addresses = {name: cell.database for name, cell in settings.cells.items()}
    if settings.catalogue is not None:
        addresses[CATALOGUE_LOG] = settings.catalogue
    pools = {}
    for name, address in addresses.items():
        pools[name] = await pool_on_demand(
            address,
            settings,
            SEARCH,
            size=2,
            watch=telemetry.waiting.watch_pool(name, SEARCH),
            command_timeout=_STATEMENT_TIMEOUT_S,
            timeout=_STATEMENT_TIMEOUT_S,
        )
        lifetime.push_async_callback(pools[name].close)
    return pools
