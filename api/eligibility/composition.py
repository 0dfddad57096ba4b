"""Wires the eligibility service: the only one that may unwrap eligibility keys, and so make nullifiers."""

from contextlib import AsyncExitStack

from api.background import run_beside
from api.composition import Service
from api.eligibility.admission import Admission
from api.eligibility.app import VotingTokenRoute, add_routes
from api.eligibility.brought_events import EventSource
from api.eligibility.cells import Cells
from api.eligibility.telemetry import AdmissionMetrics
from api.eligibility.voting_tokens import VotingTokens
from api.http.application import create_application
from api.http.limits_opening import open_limits
from api.http.used_proofs_opening import open_used_proofs
from domain.ports import KeyManagement
from domain.tokens import VOTER_ACCESS, VoterClaims
from integrations.devices.opening import open_devices
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import (
    ACCESS_TOKEN,
    EVIDENCE,
    KEK_ELIGIBILITY,
    LIMITS,
    LOOKUP,
    PSEUDONYM,
    VOTING_TOKEN,
    public,
)
from integrations.keys.signing import Ed25519Signer, VerificationKeys, keep_fresh
from integrations.keys.tokens import TokenVerifier
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics, DatabaseMetrics, DeskQueueMetrics, RiskMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.telemetry.vendor_metrics import VendorMetrics


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    public_url = settings.public_url or f"http://{settings.listen_host}:{settings.listen_port}"
    hashing = () if settings.fingerprint is None else (LOOKUP,)  # of devices: without the vendor nobody tells of any
    keys = open_keys(
        settings,
        public(ACCESS_TOKEN),
        VOTING_TOKEN,
        EVIDENCE,
        KEK_ELIGIBILITY,
        PSEUDONYM,
        LIMITS,
        *hashing,
        waiting=telemetry.waiting,
    )
    access_keys = VerificationKeys(keys, ACCESS_TOKEN)
    signers = (Ed25519Signer(keys, VOTING_TOKEN), Ed25519Signer(keys, EVIDENCE))
    for held in (access_keys, *signers):
        await held.refresh()
    run_beside(lifetime, keep_fresh(access_keys, *signers))
    pseudonym_key = (await keys.current(PSEUDONYM)).secret
    metrics = AdmissionMetrics(AuthMetrics(telemetry.registry))
    cells = Cells(
        settings,
        keys=keys,
        used=open_used_proofs(settings, lifetime, telemetry),
        tokens=VotingTokens(*signers, pseudonym_key),
        pseudonym_key=pseudonym_key,
        database=DatabaseMetrics(telemetry.registry),
        risk=RiskMetrics(telemetry.registry),
        queue=DeskQueueMetrics(telemetry.registry),
        waiting=telemetry.waiting,
        events=await _event_source(settings, keys, lifetime, telemetry),
    )
    await cells.open(lifetime)
    admission = Admission(
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, access_keys),
        proofs=RequestProofs(DpopVerifier(), public_url),
        cells=tuple(settings.cells),
        desks=cells.desks,
        events=cells.event_desks,
        limits=await open_limits(settings, keys, lifetime, telemetry),
        metrics=metrics,
        revoked=cells.revoked,
    )
    telemetry.readiness.add("cells", cells.ready)
    app = create_application(
        "eligibility",
        telemetry,
        summary="Decides who may vote, and says so without saying who",
        public_url=settings.public_url,
    )
    add_routes(app, admission, metrics)
    return Service(app, [VotingTokenRoute(admission, metrics, telemetry.tracing).lean])


async def _event_source(
    settings: Settings, keys: KeyManagement, lifetime: AsyncExitStack, telemetry: Telemetry
) -> EventSource | None:
    """Return who knows device events, where the vendor is set up."""
    if settings.fingerprint is None:
        return None
    calls = VendorMetrics(telemetry.registry, telemetry.tracing.tracer)
    return EventSource(await open_devices(settings.fingerprint, lifetime, calls), KeyedLookupHashes(keys))
