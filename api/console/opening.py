"""Opens the console of a service: its sign-in and its door; the service adds its pages."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg
from fastapi import APIRouter

from api.console.beside import DoorBeside
from api.console.browser_keys import BrowserKeys
from api.console.cookies import Cookies
from api.console.doors import Door
from api.console.pages import Pages
from api.console.pass_routes import add_pass_routes
from api.console.passes import StaffPasses
from api.console.routing import page_router
from api.console.sign_in_routes import add_sign_in_routes
from api.console.signing_in import SignIn, StaffCell
from api.console.visits import Site
from api.http.limits import Limits
from api.http.used_proofs import UsedProofs
from domain.accounts import LookupHashes
from domain.console import ConsoleSessions, SessionKind
from domain.errors import DomainError, ErrorCode
from domain.ports import KeyManagement
from integrations.keys.cookies import CookieSeal
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.login.oidc import OidcProvider, open_provider
from integrations.postgres.console_sessions import PostgresConsoleSessions
from integrations.postgres.staff_accounts import PostgresStaffAccounts
from integrations.settings import Environment, Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.vendor_settings import IdentityProviderSettings

NAME = "staff"  # of the provider in logs


@dataclass(frozen=True, slots=True)
class Console:
    """What pages are made with; those of a service are added to `router`."""

    router: APIRouter
    pages: Pages
    door: Door
    beside: DoorBeside


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """What a console needs of its service; `keys` of the purposes `console` and `lookup`."""

    keys: KeyManagement
    hashes: LookupHashes
    pools: Mapping[str, asyncpg.Pool]
    limits: Limits
    metrics: AuthMetrics
    used: UsedProofs


async def open_console(
    settings: Settings, site: Site, folder: Path, parts: ConsoleParts, lifetime: AsyncExitStack
) -> Console | None:
    """Return the console, with templates of the service in `folder`; None where no provider of staff is set.

    Raises:
        ValueError: production, and it would be reached without TLS.
    """
    if settings.staff_provider is None:
        return None
    if settings.environment is Environment.PRODUCTION and not site.is_secure:
        raise ValueError("production refuses a console without TLS: public_url is no https address")
    provider = IdentityProviderSettings(
        **dict(settings.staff_provider), redirect_uri=f"{site.public_url.rstrip('/')}{site.base}/back"
    )
    return make_console(site, folder, parts, await open_provider(NAME, provider, lifetime))


def staff_passes(
    keys: KeyManagement, pools: Mapping[str, asyncpg.Pool], kind: SessionKind = SessionKind.IDENTITY
) -> StaffPasses:
    """Return what opens the passes that a service's console gives; `keys` of the purpose `console`."""
    cells = {name: PostgresConsoleSessions(pool, kind) for name, pool in pools.items()}
    return StaffPasses(CookieSeal(keys), partial(_of, cells), kind)


def make_console(site: Site, folder: Path, parts: ConsoleParts, provider: OidcProvider) -> Console:
    """Return the console of a service whose staff sign in at this provider."""
    sessions = {name: PostgresConsoleSessions(pool, site.sessions) for name, pool in parts.pools.items()}
    cells = {name: StaffCell(PostgresStaffAccounts(pool), sessions[name]) for name, pool in parts.pools.items()}
    pages, cookies = Pages(site, folder), Cookies(site, CookieSeal(parts.keys))
    browser_keys = BrowserKeys(RequestProofs(DpopVerifier(), site.public_url), parts.used, parts.metrics)
    door = Door(site, cookies, browser_keys, partial(_of, sessions), limits=parts.limits, metrics=parts.metrics)
    beside = DoorBeside(cookies, partial(_of, sessions), limits=parts.limits, metrics=parts.metrics)
    router = page_router(pages, cookies)
    sign_in = SignIn(provider, parts.hashes, cells)
    add_sign_in_routes(router, pages=pages, cookies=cookies, sign_in=sign_in, door=door, limits=parts.limits)
    add_pass_routes(router, pages=pages, door=door, passes=staff_passes(parts.keys, parts.pools, site.sessions))
    return Console(router, pages, door, beside)


def _of(cells: Mapping[str, ConsoleSessions], name: str) -> ConsoleSessions:
    if name not in cells:
        raise DomainError(ErrorCode.WRONG_CELL)
    return cells[name]
