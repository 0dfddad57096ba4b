"""Voters, surveys and tokens around admission, in the databases of real cells."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from domain.ids import new_survey_id
from domain.ports import KeyManagement
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.opening import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, EVIDENCE, KEK_ELIGIBILITY, STAFF_TOKEN, VOTING_TOKEN
from integrations.postgres.directory import Directory
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import IDENTITY, ROLLS, SURVEYS
from integrations.postgres.rolls import PostgresRolls
from integrations.settings import Settings

_INSTALL = """
INSERT INTO identity.survey
    (survey_id, regions, minimum_age, roll_required, wrapped_eligibility_key, start_at, finish_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


@dataclass(frozen=True)
class IdentityWorld:
    """What tests of admission hold: issuers, directories and pools by cell."""

    keys: KeyManagement
    tokens: AccessTokens
    directories: dict[str, Directory]
    identity: dict[str, asyncpg.Pool]
    surveys: dict[str, asyncpg.Pool]
    rolls: dict[str, PostgresRolls]

    async def survey(self, *cells: str, **fields: Any) -> str:
        """Install a survey for everyone, or for whom `fields` say, into cells (`eu`)."""
        survey_id = new_survey_id()
        key = await self.keys.generate_data_key(KEK_ELIGIBILITY, survey_id)
        row = {"regions": [], "minimum_age": 0, "roll_required": False, "start_at": None, "finish_at": None, **fields}
        for cell in cells or ("eu",):
            await self.surveys[cell].execute(
                _INSTALL,
                survey_id,
                row["regions"],
                row["minimum_age"],
                row["roll_required"],
                key.wrapped,
                row["start_at"],
                row["finish_at"],
            )
        return survey_id

    async def voter(self, cell: str = "eu", region: str = "DE", **fields: Any) -> str:
        """Create one voter, active and verified unless `fields` say otherwise."""
        return (await self.directories[cell].create_voters(1, region, **fields))[0]

    async def enrol(self, survey_id: str, voter_id: str, cell: str = "eu") -> None:
        """Put the person behind a voter on a survey's roll."""
        await self.rolls[cell].enrol_voters(survey_id, [voter_id], "comitia:tests")

    def token(self, voter_id: str, cell: str = "eu", **bindings: Any) -> str:
        """Return an access token of a voter."""
        return self.tokens.voter(voter_id, cell, "DE", **bindings)


@asynccontextmanager
async def open_identity_world(settings: Settings, cells: Sequence[str]) -> AsyncIterator[IdentityWorld]:
    """Open the pools of cells; `settings` must have the roles of identity, rolls and surveys."""
    keys = open_keys(settings, ACCESS_TOKEN, STAFF_TOKEN, KEK_ELIGIBILITY, EVIDENCE, VOTING_TOKEN)
    tokens = AccessTokens(keys)
    await tokens.refresh()
    async with AsyncExitStack() as opened:
        pools: dict[str, dict[str, asyncpg.Pool]] = {IDENTITY: {}, ROLLS: {}, SURVEYS: {}}
        for role, by_cell in pools.items():
            for cell in cells:
                by_cell[cell] = await open_pool(settings.cells[cell].database, settings, role, size=2)
                opened.push_async_callback(by_cell[cell].close)
        directories = {cell: Directory(pool, cell) for cell, pool in pools[IDENTITY].items()}
        rolls = {cell: PostgresRolls(pool) for cell, pool in pools[ROLLS].items()}
        yield IdentityWorld(keys, tokens, directories, pools[IDENTITY], pools[SURVEYS], rolls)
