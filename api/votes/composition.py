"""Wires the votes service. It knows nullifiers, never persons: no access token and no identity comes this way."""

from contextlib import AsyncExitStack
from functools import partial

from activities.log_reading import LogReading
from api.background import run_beside
from api.composition import Service
from api.http.application import create_application
from api.http.limits_opening import open_limits
from api.http.used_proofs_opening import open_used_proofs
from api.votes.answering import Answering
from api.votes.app import add_routes, lean_routes
from api.votes.authority import VotingAuthority
from api.votes.cells import VotingCells, VotingSecrets
from api.votes.endpoint import CastVotes
from api.votes.receipts import Receipts
from api.votes.submissions import Submissions
from api.votes.telemetry import VoteTelemetry
from domain.audit_log import origin_of
from domain.ports import KeyManagement
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.opening import open_keys
from integrations.keys.purposes import AUDIT_LOG, DAILY, KEK_BALLOT, LIMITS, PSEUDONYM, SUBMISSION, VOTING_TOKEN, public
from integrations.keys.signing import LogKeys, VerificationKeys, keep_fresh
from integrations.keys.tokens import VotingTokenVerifier
from integrations.objects.log_objects import open_log_objects
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.telemetry.telemetry import Telemetry


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    public_url = settings.public_url or f"http://{settings.listen_host}:{settings.listen_port}"
    keys = open_keys(
        settings,
        *map(public, (VOTING_TOKEN, AUDIT_LOG)),
        KEK_BALLOT,
        DAILY,
        SUBMISSION,
        PSEUDONYM,
        LIMITS,
        waiting=telemetry.waiting,
    )
    token_keys = VerificationKeys(keys, VOTING_TOKEN)
    await token_keys.refresh()
    run_beside(lifetime, keep_fresh(token_keys))
    secrets = VotingSecrets((await keys.current(SUBMISSION)).secret, (await keys.current(PSEUDONYM)).secret)
    limits = await open_limits(settings, keys, lifetime, telemetry)
    cells = VotingCells(settings, keys, secrets, telemetry, limits)
    await cells.open(lifetime)
    telemetry.readiness.add("cells", cells.ready)
    telemetry.readiness.add("voting_token_keys", partial(_has_keys, token_keys))
    app = create_application(
        "votes", telemetry, summary="Takes votes and says what became of them", public_url=settings.public_url
    )
    authority = VotingAuthority(
        VotingTokenVerifier(token_keys),
        proofs=RequestProofs(DpopVerifier(), public_url),
        used=open_used_proofs(settings, lifetime, telemetry),
        cells=settings.cells,
        failures=limits.failures,
        metrics=AuthMetrics(telemetry.registry),
    )
    submissions = Submissions(cells)
    receipts = Receipts(cells, submissions, _logs(settings, keys))
    counted = VoteTelemetry(cells.metrics, telemetry.tracing)
    add_routes(app, authority, cells, Answering(cells), submissions=submissions, receipts=receipts, telemetry=counted)
    cast = CastVotes(authority, cells, counted)
    return Service(app, lean_routes(cast, cells.gate), on_refused=cells.metrics.turned_away)


async def _has_keys(keys: VerificationKeys) -> bool:
    """Tell whether any voting token could be verified; on a new system admission makes the first key."""
    if not keys.by_id:
        await keys.refresh()
    return bool(keys.by_id)


def _logs(settings: Settings, keys: KeyManagement) -> dict[str, LogReading]:
    """Return the audit logs of the cells; none where the settings name no store: votes need none of it."""
    try:
        objects = open_log_objects(settings)
    except LookupError:
        return {}
    signer, environment = LogKeys(keys, AUDIT_LOG), settings.environment.value
    return {cell: LogReading(objects, signer, cell, origin_of(environment, cell)) for cell in settings.cells}
