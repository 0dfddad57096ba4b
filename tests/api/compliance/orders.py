"""Orders of compliance over HTTP: work that is asked for, done by a process, and written down first."""

import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import httpx
from fastapi import APIRouter

from api.http.application import create_application
from domain.audit import AuditKind
from domain.errors import DomainError, ErrorCode
from domain.tokens import Role
from integrations.identity_cell import IdentityCell, open_identity_cell
from integrations.keys.opening import open_keys
from integrations.keys.purposes import HISTORY
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY
from integrations.telemetry.telemetry import make_telemetry
from tests.api.support.staff_desk import staff
from tests.conftest import OwnerPool, SettingsFor

T = TypeVar("T")
AnyOrders = TypeVar("AnyOrders", bound="Orders")


@dataclass
class Orders:
    """A cell's clients, who asks over HTTP, and the queue of the work, which nobody serves unless a test does."""

    client: httpx.AsyncClient
    cell: IdentityCell
    owner: asyncpg.Pool
    queue: str

    async def cancellations(self, work: str) -> list[tuple[str, str, str]]:
        """Return who had work cancelled by which role, and what came of it."""
        told = await self.entries(work, AuditKind.WORK_CANCELLED)
        return sorted((each["actor"], each["role"], each["outcome"]) for each in told)

    async def entries(self, subject: str, kind: AuditKind) -> list[dict[str, Any]]:
        rows = await self.owner.fetch(
            "SELECT body FROM audit.entry WHERE kind = $1 AND body->>'subject' = $2", kind.value, subject
        )
        return [json.loads(row["body"]) for row in rows]


def as_officer(who: str, *roles: Role) -> dict[str, str]:
    """Return the headers of somebody of staff, of compliance where no role is named."""
    return staff(who, roles or (Role.COMPLIANCE,))


def only_eu(opened: T) -> Callable[[str | None], T]:
    """Return cells of which one is there, one is away, and there are no others."""

    def of(name: str | None) -> T:
        if name == "us":
            raise DomainError(ErrorCode.CELL_UNAVAILABLE)
        if name != "eu":
            raise DomainError(ErrorCode.WRONG_CELL)
        return opened

    return of


@asynccontextmanager
async def open_orders(
    settings_for: SettingsFor,
    owner_pool: OwnerPool,
    orders: type[AnyOrders],
    routes: Callable[[IdentityCell, str], APIRouter],
) -> AsyncIterator[AnyOrders]:
    """Serve the routes of a cell and a queue until the end of the block."""
    settings, queue = settings_for(IDENTITY), f"orders-{secrets.token_hex(4)}"
    telemetry = make_telemetry(settings, "compliance")
    async with AsyncExitStack() as lifetime:
        pool = await open_pool(settings.cells["eu"].database, settings, IDENTITY, size=3)
        lifetime.push_async_callback(pool.close)
        cell = await open_identity_cell("eu", settings, open_keys(settings, HISTORY), pool, telemetry)
        app = create_application("compliance", telemetry)
        app.include_router(routes(cell, queue))
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://officer"))
        yield orders(client, cell, await owner_pool("eu"), queue)
