"""Wires login: proofs, codes, the desk that decides, and its routes."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from fastapi import APIRouter

from api.auth.cells import AuthCells
from api.auth.login_accounts import AccountFinder
from api.auth.login_codes import LoginCodes
from api.auth.login_humans import HumanChecks
from api.auth.login_proofs import LoginProofs, PasswordFactor
from api.auth.login_room import LoginRoom
from api.auth.login_routes import login_routes, step_up_routes
from api.auth.login_serving import RecordedLogins
from api.auth.login_steps import StepUpDesk
from api.auth.logins import LoginDesk
from api.auth.proving import KeyProofs
from api.auth.sessions import SessionDesk
from api.http.limits import Limits
from domain.breaches import BreachedPasswords
from domain.challenges import BotChallenge
from integrations.devices.shown import ShownDevices
from integrations.identity_cell import IdentityCells
from integrations.login.oidc import OidcLogins
from integrations.login.passwords import Passwords
from integrations.mailing import open_mailer
from integrations.settings import Settings
from integrations.telemetry.metrics import LoginMetrics
from integrations.telemetry.waiting_metrics import WaitingMetrics


@dataclass(frozen=True, slots=True)
class LoginParts:
    """What login takes of the service."""

    settings: Settings
    cells: AuthCells
    identity: IdentityCells
    sessions: SessionDesk
    recorded: RecordedLogins
    providers: OidcLogins
    challenges: BotChallenge | None
    passwords: Passwords
    breaches: BreachedPasswords | None
    key: KeyProofs
    limits: Limits
    room: LoginRoom
    metrics: LoginMetrics
    waiting: WaitingMetrics
    shown: ShownDevices | None = None


def open_logins(parts: LoginParts, lifetime: AsyncExitStack) -> list[APIRouter]:
    """Return the routes of login; what it opened ends with `lifetime`."""
    settings, cells, names = parts.settings, parts.cells, tuple(parts.settings.cells)
    accounts, passwords = AccountFinder(cells, names, cells.hashes), PasswordFactor(parts.passwords)
    codes, humans = LoginCodes(cells, accounts, open_mailer(settings, parts.waiting)), HumanChecks(parts.challenges)
    lifetime.push_async_callback(codes.close)
    proofs = LoginProofs(
        cells, names, accounts=accounts, passwords=passwords, providers=parts.providers, breaches=parts.breaches
    )
    desk = LoginDesk(
        cells,
        parts.identity,
        proofs=proofs,
        sessions=parts.sessions,
        recorded=parts.recorded,
        humans=humans,
        room=parts.room,
        metrics=parts.metrics,
        first_cell=names[0],
    )
    steps = StepUpDesk(cells, parts.identity, desk, passwords, codes)
    return [
        login_routes(
            desk,
            codes=codes,
            humans=humans,
            cells=cells,
            names=names,
            key=parts.key,
            limits=parts.limits,
            shown=parts.shown,
        ),
        step_up_routes(steps, parts.key, parts.limits),
    ]
