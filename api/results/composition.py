"""Wires the results service."""

from contextlib import AsyncExitStack

from api.background import run_beside
from api.composition import Service
from api.http.access import Access
from api.http.limits_opening import open_limits
from api.http.sign_ins import SignIns
from api.http.used_proofs_opening import open_used_proofs
from api.results.app import create_app
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.opening import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, LIMITS, STAFF_TOKEN, public
from integrations.keys.signing import VerificationKeys, keep_fresh
from integrations.keys.tokens import TokenVerifier
from integrations.postgres.api_clients import ApiClients
from integrations.postgres.roles import TALLY
from integrations.postgres.staff_sign_ins import PostgresStaffSignIns
from integrations.results.opening import open_results
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.telemetry.telemetry import Telemetry


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    public_url = settings.public_url or f"http://{settings.listen_host}:{settings.listen_port}"
    keys = open_keys(settings, public(STAFF_TOKEN), public(ACCESS_TOKEN), LIMITS, waiting=telemetry.waiting)
    staff_keys, voter_keys = VerificationKeys(keys, STAFF_TOKEN), VerificationKeys(keys, ACCESS_TOKEN)
    for held in (staff_keys, voter_keys):
        await held.refresh()
    run_beside(lifetime, keep_fresh(staff_keys, voter_keys))
    opened = await open_results(settings, lifetime, TALLY, telemetry.waiting)
    limits = await open_limits(settings, keys, lifetime, telemetry)
    access = Access(
        staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff_keys),
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, voter_keys),
        proofs=RequestProofs(DpopVerifier(), public_url),
        used=open_used_proofs(settings, lifetime, telemetry),
        limits=limits,
        metrics=AuthMetrics(telemetry.registry),
        clients=ApiClients(opened.pools),
        sign_ins=SignIns("results", {cell: PostgresStaffSignIns(pool) for cell, pool in opened.pools.items()}),
    )
    telemetry.readiness.add("tally", opened.any_cell_answers)
    admin = access.require_role(Role.ADMIN)
    app = create_app(opened.results, admin, limits, telemetry, public_url=settings.public_url)
    return Service(app)
