"""The service `support` over a town, for people of staff who say by header who they are."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import httpx
from fastapi import FastAPI, Request

from api.console.opening import Console
from api.http.access import Principal
from api.support.acting import ActionDesk
from api.support.app import create_app
from api.support.cells import SupportCell, support_cell
from api.support.desk import CaseDesk
from api.support.stuck import StuckDesk
from api.support.unmasking import UnmaskingDesk
from domain.case_targets import TARGETS, Target
from domain.errors import DomainError, ErrorCode
from domain.submissions import SubmissionIds
from domain.tokens import Role
from integrations.identity_cell import KEYS
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.case_actions import TemporalCaseActions
from integrations.temporal.unmaskings import TemporalUnmaskings
from tests.api.auth.registration_town import CELLS, Town
from workflows.signatures import all_signatures

ANN, BOB = "staff:u_eu_ann", "staff:u_eu_bob"


@dataclass
class StaffDesk:
    """Whoever calls the service."""

    client: httpx.AsyncClient
    owner: asyncpg.Pool

    async def post(
        self, path: str, who: str = ANN, *roles: Role, key: str | None = "k" * 8, **body: Any
    ) -> httpx.Response:
        headers = {} if key is None else {"idempotency-key": key}
        return await self.client.post(f"/v1/support/{path}", json=body, headers=headers | staff(who, roles))

    async def get(self, path: str, who: str = ANN, *roles: Role) -> httpx.Response:
        return await self.client.get(f"/v1/support/{path}", headers=staff(who, roles))

    async def entries(self, case_id: str) -> list[dict[str, Any]]:
        """A case's entries of staff, in the order in which they were written."""
        rows = await self.owner.fetch(
            "SELECT body FROM audit.entry WHERE body->>'subject' = $1 AND kind LIKE 'case.%' ORDER BY xid", case_id
        )
        return [json.loads(row["body"]) for row in rows]

    async def outcomes(self, case_id: str) -> list[tuple[str, str]]:
        """The outcomes and actors of a case's entries of staff, in the order in which they were written."""
        told = await self.entries(case_id)
        return [(body["outcome"].partition(":")[0], body["actor"]) for body in told]


def staff(who: str, roles: tuple[Role, ...]) -> dict[str, str]:
    return {"x-staff": who, "x-roles": ",".join(roles or (Role.SUPPORT,))}


def door(*roles: Role) -> Callable[..., Awaitable[Principal]]:
    async def principal(request: Request) -> Principal:
        held = frozenset(Role(name) for name in request.headers["x-roles"].split(","))
        if not held & set(roles):
            raise DomainError(ErrorCode.FORBIDDEN)
        return Principal(request.headers["x-staff"], held)

    return principal


@asynccontextmanager
async def staff_desk(
    town: Town, owner: asyncpg.Pool, *, queue: str = "nobody", is_watched: bool = True, **parts: Any
) -> AsyncIterator[StaffDesk]:
    """Serve the cells of a town; `parts` of a cell take the place of its own."""
    app = support_app(town, queue=queue, is_watched=is_watched, **parts)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://support") as client:
        yield StaffDesk(client, owner)


def support_app(
    town: Town,
    *,
    queue: str = "nobody",
    is_watched: bool = True,
    console: Console | None = None,
    codec_origins: Collection[str] = (),
    targets: Sequence[Target] = TARGETS,
    **parts: Any,
) -> FastAPI:
    """Return the service over the cells of a town."""
    signatures = all_signatures()

    def cell_of(name: str | None) -> SupportCell:
        if name not in town.cells:
            raise DomainError(ErrorCode.WRONG_CELL)
        made = support_cell(town.cells[name], signatures, SubmissionIds(bytes(32)))
        temporal = town.cells[name].temporal
        given = {
            "actions": TemporalCaseActions(temporal, queue=queue, patience_s=20),
            "unmaskings": TemporalUnmaskings(temporal, name, queue=queue, patience_s=20),
            **parts,
        }
        return replace(made, **given)

    hashes = KeyedLookupHashes(open_keys(town.settings, *KEYS))
    return create_app(
        CaseDesk(CELLS, cell_of, hashes),
        StuckDesk(CELLS, cell_of, targets),
        ActionDesk(cell_of),
        UnmaskingDesk(cell_of, is_watched=is_watched),
        staff=door(Role.SUPPORT, Role.COMPLIANCE),
        deciders=door(Role.COMPLIANCE, Role.ADMIN),
        readers=door(Role.SUPPORT, Role.COMPLIANCE, Role.ADMIN),
        telemetry=make_telemetry(town.settings, "support"),
        console=console,
        codec_origins=codec_origins,
    )
