"""Wires the results service."""

from contextlib import AsyncExitStack

from api.background import run_beside
from api.composition import Service
from api.http.access import Access
from api.results.app import create_app
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.file_kms import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN, public
from integrations.keys.signing import VerificationKeys, keep_fresh
from integrations.keys.tokens import TokenVerifier
from integrations.postgres.api_clients import ApiClients
from integrations.postgres.roles import TALLY
from integrations.results.opening import open_results
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    public_url = settings.public_url or f"http://{settings.listen_host}:{settings.listen_port}"
    keys = open_keys(settings, public(STAFF_TOKEN), public(ACCESS_TOKEN))
    staff_keys, voter_keys = VerificationKeys(keys, STAFF_TOKEN), VerificationKeys(keys, ACCESS_TOKEN)
    for held in (staff_keys, voter_keys):
        await held.refresh()
    run_beside(lifetime, keep_fresh(staff_keys, voter_keys))
    opened = await open_results(settings, lifetime, TALLY)
    access = Access(
        staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff_keys),
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, voter_keys),
        proofs=RequestProofs(DpopVerifier(), public_url),
        clients=ApiClients(opened.pools),
    )
    telemetry.readiness.add("tally", opened.any_cell_answers)
    app = create_app(opened.results, access.require_role(Role.ADMIN), telemetry, public_url=settings.public_url)
    return Service(app)
