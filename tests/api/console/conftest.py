"""A console without a service: two pages, over the databases of real cells."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

import pytest
import pytest_asyncio
from fastapi import Depends, Request, Response

from api.console.visits import Visit
from api.http.access import Principal
from api.http.application import create_application
from api.http.used_proofs import CellProofs, UsedProofs
from domain.errors import DomainError, ErrorCode
from domain.tokens import Role
from integrations.identity_cell import identity_pools
from integrations.postgres.roles import IDENTITY, STAFFING
from integrations.telemetry.telemetry import make_telemetry
from tests.conftest import SettingsFor
from tests.console_world import ConsoleWorld, console_world

BASE = "/console"


class Memory:
    """Implements `ProofMemory` for all cells."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    async def use(self, proofs: Sequence[bytes]) -> list[bool]:
        new = [proof not in self._seen for proof in proofs]
        self._seen |= set(proofs)
        return new


@pytest.fixture(scope="module")
def memory() -> Memory:
    return Memory()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(settings_for: SettingsFor, memory: Memory) -> AsyncIterator[ConsoleWorld]:
    async with opened(settings_for, memory) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def elsewhere(settings_for: SettingsFor, memory: Memory) -> AsyncIterator[ConsoleWorld]:
    """The same console in another process, as far as memory goes."""
    async with opened(settings_for, memory) as made:
        yield made


@asynccontextmanager
async def opened(settings_for: SettingsFor, memory: Memory) -> AsyncIterator[ConsoleWorld]:
    settings = settings_for(IDENTITY, STAFFING)
    async with AsyncExitStack() as lifetime:
        pools = await identity_pools(settings, lifetime)
        made = await lifetime.enter_async_context(
            console_world(
                settings,
                pools,
                BASE,
                Path(__file__).parent,
                used=UsedProofs({cell: CellProofs(cell, memory) for cell in pools}),
            )
        )
        add_pages(made)
        app = create_application("support", make_telemetry(settings, "support"), forms_below=BASE)
        app.include_router(made.console.router)
        made.serve(app)
        yield made


def add_pages(world: ConsoleWorld) -> None:
    console = world.console
    Anyone = Annotated[Visit, Depends(console.door.require())]  # noqa: N806 - types
    Officer = Annotated[Visit, Depends(console.door.require(Role.COMPLIANCE))]  # noqa: N806
    Watching = Annotated[Visit, Depends(console.door.require(watches=True))]  # noqa: N806
    Beside = Annotated[Principal, Depends(console.beside.require(Role.SUPPORT))]  # noqa: N806

    @console.router.get("")
    async def first(visit: Anyone) -> Response:
        return console.pages.page("signed_in.html", visit, to=BASE)

    @console.router.get("/watched")
    async def watched(_visit: Watching) -> Response:
        return Response("as it stands")

    @console.router.get("/opens-beside")
    async def opens_beside(visit: Watching, request: Request) -> Response:
        answer = Response()
        await console.beside.open(request, visit, answer)
        return answer

    @console.router.get("/beside")
    async def beside(principal: Beside) -> Response:
        return Response(principal.actor)

    @console.router.post("/said")
    async def said(visit: Anyone) -> Response:
        return Response(visit.principal.actor + " " + visit.value("word"))

    @console.router.get("/of-officers")
    async def of_officers(visit: Officer) -> Response:
        raise DomainError(ErrorCode.CASE_NOT_FOUND, f"<script>{visit.principal.actor}</script>")
