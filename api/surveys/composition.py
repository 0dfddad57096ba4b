"""Wires the surveys service."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from api.background import run_beside
from api.composition import Service
from api.console.opening import ConsoleParts, open_console, staff_passes
from api.console.visits import Site
from api.http.access import Access
from api.http.limits_opening import open_limits
from api.http.sign_ins import SignIns
from api.http.used_proofs_opening import open_used_proofs
from api.surveys.app import create_app
from api.surveys.certification_routes import Certifications
from api.surveys.export_processes import ExportProcesses
from api.surveys.exporting import Exports
from api.surveys.processes import SurveyProcesses
from domain.audit import CATALOGUE_LOG
from domain.audit_log import verifier_keys
from domain.console import SessionKind
from domain.errors import ErrorCode
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, AUDIT_LOG, CERTIFICATE, LIMITS, LOOKUP, STAFF_TOKEN, public
from integrations.keys.purposes import CONSOLE as CONSOLE_KEY
from integrations.keys.signing import VerificationKeys, keep_fresh
from integrations.keys.tokens import TokenVerifier
from integrations.objects.files import open_files
from integrations.platform import IN_FLIGHT, cell_pools, open_platform
from integrations.postgres.api_clients import ApiClients
from integrations.postgres.catalogue import PostgresCatalogue
from integrations.postgres.catalogue_exports import PostgresExports
from integrations.postgres.certifications import PostgresCertifications
from integrations.postgres.findings import CellFindingsReader
from integrations.postgres.roles import CONSOLE
from integrations.postgres.staff_sign_ins import PostgresStaffSignIns
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.codec import keep_refreshed

BASE: Final = "/console/surveys"  # of its pages
TEMPLATES: Final = Path(__file__).parent / "templates"


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    objects = open_files(settings)
    public_url = settings.public_url or f"http://{settings.listen_host}:{settings.listen_port}"
    public_keys = map(public, (STAFF_TOKEN, ACCESS_TOKEN, CERTIFICATE, AUDIT_LOG))
    keys = open_keys(settings, *public_keys, IN_FLIGHT, LIMITS, CONSOLE_KEY, LOOKUP, waiting=telemetry.waiting)
    clients = await open_platform(settings, keys, lifetime, telemetry)
    staff_keys, voter_keys = VerificationKeys(keys, STAFF_TOKEN), VerificationKeys(keys, ACCESS_TOKEN)
    certificate_keys, log_keys = VerificationKeys(keys, CERTIFICATE), VerificationKeys(keys, AUDIT_LOG)
    for held in (staff_keys, voter_keys, certificate_keys, log_keys):
        await held.refresh()
    run_beside(lifetime, keep_fresh(staff_keys, voter_keys, certificate_keys, log_keys))
    run_beside(lifetime, keep_refreshed(clients.codec))
    limits = await open_limits(settings, keys, lifetime, telemetry)
    pools, metrics = await cell_pools(settings, lifetime, waiting=telemetry.waiting), AuthMetrics(telemetry.registry)
    staff_pools = await cell_pools(settings, lifetime, CONSOLE, waiting=telemetry.waiting)
    used = open_used_proofs(settings, lifetime, telemetry)
    access = Access(
        staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff_keys),
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, voter_keys),
        proofs=RequestProofs(DpopVerifier(), public_url),
        used=used,
        limits=limits,
        metrics=metrics,
        clients=ApiClients(pools),
        passes=staff_passes(keys, staff_pools, SessionKind.SURVEYS),
        sign_ins=SignIns(
            "surveys",
            {CATALOGUE_LOG: PostgresStaffSignIns(clients.catalogue, away=ErrorCode.CATALOGUE_UNAVAILABLE)},
        ),
    )
    telemetry.readiness.add("catalogue", lambda: clients.catalogue.fetchval("SELECT true"))
    telemetry.readiness.add("workflows", clients.temporal.service_client.check_health)
    parts = ConsoleParts(keys, KeyedLookupHashes(keys), staff_pools, limits, metrics, used)
    site = Site(public_url, BASE, settings.console_links, SessionKind.SURVEYS)
    console = await open_console(settings, site, TEMPLATES, parts, lifetime)
    app = create_app(
        PostgresCatalogue(clients.catalogue),
        SurveyProcesses(clients.temporal, tuple(settings.cells)),
        Exports(PostgresExports(clients.catalogue), ExportProcesses(clients.temporal), objects),
        CellFindingsReader(pools),
        access.require_role(Role.ADMIN),
        limits=limits,
        telemetry=telemetry,
        certifications=Certifications(
            PostgresCertifications(clients.catalogue),
            objects,
            lambda: certificate_keys.by_id,
            lambda: verifier_keys(settings.environment.value, settings.cells, log_keys.by_id.values()),
        ),
        public_url=settings.public_url,
        console=console,
    )
    return Service(app)
