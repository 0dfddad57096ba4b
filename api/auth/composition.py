"""Wires the service `auth`: the only one that signs voters' access tokens."""

from contextlib import AsyncExitStack

from api.auth.account_opening import open_account_routes
from api.auth.app import create_app
from api.auth.cells import AuthCells
from api.auth.key_routes import key_routes
from api.auth.login_opening import LoginParts, open_logins
from api.auth.login_room import LoginRoom
from api.auth.login_routes import LOGINS
from api.auth.login_serving import LoginWorkers, RecordedLogins
from api.auth.logout_routes import BackChannel, logout_routes
from api.auth.new_passwords import NewPasswords
from api.auth.oidc_routes import oidc_routes
from api.auth.proving import KeyProofs
from api.auth.registering import open_vendors, registration_desk
from api.auth.registration_routes import registration_routes
from api.auth.session_routes import session_routes
from api.auth.sessions import SessionDesk
from api.background import run_beside
from api.composition import Service
from api.http.access import Access
from api.http.lean import LeanRoute, by_framework
from api.http.limits_opening import open_limits
from api.http.used_proofs_opening import open_used_proofs
from domain.priorities import Work
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, StaffClaims, VoterClaims
from integrations.identity_cell import IdentityCells
from integrations.keys.access_tokens import VoterTokens
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.opening import open_keys
from integrations.keys.purposes import (
    ACCESS_TOKEN,
    HISTORY,
    KEK_PERSONAL,
    LIMITS,
    LOOKUP,
    REGISTRATION,
    STAFF_TOKEN,
    public,
)
from integrations.keys.signing import Ed25519Signer, VerificationKeys, keep_fresh
from integrations.keys.tokens import TokenVerifier
from integrations.login.breaches import open_breaches
from integrations.login.oidc import open_providers
from integrations.login.passwords import Passwords
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics, LoginMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.telemetry.vendor_metrics import VendorMetrics
from integrations.temporal.registrations import IDENTITY_DEPLOYMENT
from integrations.temporal.worker import Release

_CONNECTIONS = 12  # to each cell for what is decided: a login has three statements on their way at once


async def compose(
    settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry, *, room: LoginRoom | None = None
) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`. Without a room logins have the usual one."""
    public_url = settings.public_url or f"http://{settings.listen_host}:{settings.listen_port}"
    keys = open_keys(
        settings,
        ACCESS_TOKEN,
        public(STAFF_TOKEN),
        LOOKUP,
        KEK_PERSONAL,
        REGISTRATION,
        HISTORY,
        LIMITS,
        waiting=telemetry.waiting,
    )
    signer = Ed25519Signer(keys, ACCESS_TOKEN)
    access_keys, staff_keys = VerificationKeys(keys, ACCESS_TOKEN), VerificationKeys(keys, STAFF_TOKEN)
    for held in (signer, access_keys, staff_keys):  # in this order: on a new system the first makes the key
        await held.refresh()
    run_beside(lifetime, keep_fresh(signer, access_keys, staff_keys))
    limits = await open_limits(settings, keys, lifetime, telemetry)
    cells = AuthCells(settings, keys, waiting=telemetry.waiting)
    await cells.open(lifetime)
    telemetry.readiness.add("cells", cells.ready)
    proofs, used = RequestProofs(DpopVerifier(), public_url), open_used_proofs(settings, lifetime, telemetry)
    access = Access(
        staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff_keys),
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, access_keys),
        proofs=proofs,
        used=used,
        limits=limits,
        metrics=AuthMetrics(telemetry.registry),
        revoked=cells.revoked,
    )
    desk = SessionDesk(cells, VoterTokens(signer))
    names = tuple(settings.cells)
    vendor_calls = VendorMetrics(telemetry.registry, telemetry.tracing.tracer)
    providers = await open_providers(settings, lifetime, vendor_calls)
    back_channel = BackChannel(providers, desk, cells, names, cells.hashes)
    vendors = await open_vendors(settings, lifetime, vendor_calls)
    recorded = RecordedLogins()
    identity = IdentityCells(settings, keys, telemetry, connections=_CONNECTIONS)
    release = Release(IDENTITY_DEPLOYMENT, settings.build)
    workers = LoginWorkers(release, cells.hashes, recorded, devices=vendors.devices, challenges=vendors.challenges)
    await identity.open(lifetime, workers.serve)
    voter, key = access.require_voter(), KeyProofs(proofs, used, limits)
    passwords, breaches = Passwords(), None
    telemetry.waiting.watch_passwords(lambda: passwords.waiting)
    if settings.breaches is not None:
        breaches = await lifetime.enter_async_context(open_breaches(settings.breaches, vendor_calls))
    room = room or LoginRoom()
    metrics = LoginMetrics(telemetry.registry)
    metrics.watch(lambda: room.working, lambda: room.waiting)
    logins = LoginParts(
        settings=settings,
        cells=cells,
        identity=identity,
        sessions=desk,
        recorded=recorded,
        providers=providers,
        challenges=vendors.challenges,
        passwords=passwords,
        breaches=breaches,
        key=key,
        limits=limits,
        room=room,
        metrics=metrics,
        waiting=telemetry.waiting,
        shown=vendors.shown,
    )
    routers = [
        registration_routes(registration_desk(settings, identity, vendors, cells.hashes, keys), limits),
        key_routes(access_keys, limits),
        session_routes(desk, voter, key, limits, names),
        oidc_routes(providers, cells, names, limits),
        logout_routes(back_channel, limits),
        *open_logins(logins, lifetime),
        *open_account_routes(
            names,
            cells=cells,
            sessions=desk,
            identity=identity,
            vendors=vendors,
            voter=voter,
            passwords=NewPasswords(passwords, breaches),
            providers=providers,
            limits=limits,
        ),
    ]
    app = create_app(routers, telemetry=telemetry, public_url=settings.public_url)
    return Service(app, [LeanRoute("POST", LOGINS, by_framework, work=Work.LOGIN, gate=room)])
