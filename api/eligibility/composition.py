"""Wires the eligibility service: the only one that may unwrap eligibility keys, and so make nullifiers."""

from contextlib import AsyncExitStack

from api.background import run_beside
from api.composition import Service
from api.eligibility.admission import Admission
from api.eligibility.app import BODY_LIMIT_BYTES, VotingTokenRoute, add_routes
from api.eligibility.cells import Cells
from api.eligibility.telemetry import AdmissionMetrics
from api.eligibility.voting_tokens import VotingTokens
from api.http.application import create_application
from api.http.limits_opening import open_limits
from api.http.used_proofs_opening import open_used_proofs
from domain.tokens import VOTER_ACCESS, VoterClaims
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.opening import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, EVIDENCE, KEK_ELIGIBILITY, LIMITS, PSEUDONYM, VOTING_TOKEN, public
from integrations.keys.signing import Ed25519Signer, VerificationKeys, keep_fresh
from integrations.keys.tokens import TokenVerifier
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics, DatabaseMetrics, DeskQueueMetrics, RiskMetrics
from integrations.telemetry.telemetry import Telemetry


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    public_url = settings.public_url or f"http://{settings.listen_host}:{settings.listen_port}"
    keys = open_keys(settings, public(ACCESS_TOKEN), VOTING_TOKEN, EVIDENCE, KEK_ELIGIBILITY, PSEUDONYM, LIMITS)
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
    )
    await cells.open(lifetime)
    admission = Admission(
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, access_keys),
        proofs=RequestProofs(DpopVerifier(), public_url),
        cells=tuple(settings.cells),
        desks=cells.desks,
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
        body_limit_bytes=BODY_LIMIT_BYTES,
    )
    add_routes(app, admission, metrics)
    return Service(app, [VotingTokenRoute(admission, metrics, telemetry.tracing).lean])
