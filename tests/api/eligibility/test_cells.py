"""A cell that is down refuses its own voters and nobody else's, and comes back by itself."""

import asyncio

from integrations.postgres.roles import IDENTITY
from integrations.settings import Settings
from tests.api.eligibility.conftest import PUBLIC_URL, eligibility_service
from tests.conftest import SettingsFor
from tests.identity_world import IdentityWorld


class Door:
    """A port in front of a database that a test opens and shuts."""

    def __init__(self, host: str, port: int) -> None:
        self._behind = (host, port)
        self._server: asyncio.Server | None = None
        self._connections: list[asyncio.StreamWriter] = []
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        self._connections.clear()
        await self._server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(*self._behind)
        self._connections += [writer, behind_writer]
        await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
    except OSError:
        pass
    writer.close()


def behind_door(settings: Settings, cell: str, door: Door) -> Settings:
    database = settings.cells[cell].database.model_copy(update={"host": "127.0.0.1", "port": door.port})
    moved = settings.cells[cell].model_copy(update={"database": database})
    return settings.model_copy(update={"cells": {**settings.cells, cell: moved}})


async def test_cell_that_is_down_concerns_its_own_voters_only(
    settings_for: SettingsFor, identity_world: IdentityWorld
) -> None:
    survey_id = await identity_world.survey("eu", "us")
    voters = {cell: await identity_world.voter(cell) for cell in ("eu", "us")}
    tokens = {cell: identity_world.token(voter, cell) for cell, voter in voters.items()}
    settings = settings_for(IDENTITY, public_url=PUBLIC_URL)
    door = Door(settings.cells["us"].database.host, settings.cells["us"].database.port)
    await door.open()
    await door.shut()
    async with eligibility_service(behind_door(settings, "us", door)) as service:

        async def comes_back() -> None:
            async with asyncio.timeout(15):
                while (await service.ask(survey_id, tokens["us"])).status_code != 201:
                    await asyncio.sleep(0.1)

        down = await service.ask(survey_id, tokens["us"])
        assert (down.status_code, down.json()["code"]) == (503, "directory_unavailable")
        assert int(down.headers["retry-after"]) >= 1
        assert (await service.ask(survey_id, tokens["eu"])).status_code == 201
        assert (await service.client.get("/readyz")).status_code == 200
        await door.open()
        await comes_back()
        await door.shut()
        assert (await service.refusal(survey_id, tokens["us"])) == (503, "directory_unavailable")
        assert (await service.ask(survey_id, tokens["eu"])).status_code == 201
        await door.open()
        await comes_back()
    await door.shut()
