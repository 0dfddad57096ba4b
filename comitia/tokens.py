"""`comitia token`: voters and staff of a stack under development, with the access tokens that a login would give."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated

import typer
from pydantic import ValidationError

from comitia.cell_access import identity_pools
from comitia.stack_settings import STACK_FOLDER, DataFolder, identity_settings, said
from domain.eligibility import AGE_CLASSES
from domain.tokens import Role
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.dpop_keys import ProofKey
from integrations.keys.opening import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN
from integrations.postgres.directory import Directory
from integrations.postgres.pool import Pool
from integrations.settings import Environment, Settings

_CHUNK = 5000  # voters per transaction

app = typer.Typer(help="Issue access tokens for tests and demos; refused in production.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """An access token and, where it is bound, the key that must prove its use."""

    token: str
    subject: str
    key: ProofKey | None = None

    def line(self) -> str:
        """Return one JSON object: `token`, `subject` and, where bound, `key` as a private JWK."""
        members: dict[str, object] = {"token": self.token, "subject": self.subject}
        if self.key is not None:
            members["key"] = self.key.private_jwk
        return json.dumps(members, separators=(",", ":"))


async def open_access_tokens(settings: Settings) -> AccessTokens:
    """Return the development issuer of a stack's access tokens, ready to sign.

    Raises:
        PermissionError: the environment is production: there, only a login issues tokens.
        LookupError: the settings name no key service.
    """
    if settings.environment is Environment.PRODUCTION:
        raise PermissionError("tokens are not handed out in production")
    tokens = AccessTokens(open_keys(settings, ACCESS_TOKEN, STAFF_TOKEN))
    await tokens.refresh()
    return tokens


async def issue_voters(
    pool: Pool, tokens: AccessTokens, cell: str, region: str, count: int, *, age: int = 18, bound: bool = False
) -> AsyncIterator[IssuedToken]:
    """Create `count` verified voters of new persons in a cell and yield an access token of each.

    `age` is the class that they have reached: 0, 16 or 18 years.
    """
    directory = Directory(pool, cell)
    for start in range(0, count, _CHUNK):
        for voter_id in await directory.create_voters(min(_CHUNK, count - start), region, age_class=age):
            key = ProofKey.generate() if bound else None
            token = tokens.voter(voter_id, cell, region, jkt=key.jkt if key else None)
            yield IssuedToken(token, voter_id, key)


@app.command()
def voter(
    *,
    cell: Annotated[str, typer.Option(help="Home cell of the voters.")],
    region: Annotated[str, typer.Option(help="Region of the voters, as surveys name it.")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000)] = 1,
    age: Annotated[int, typer.Option(help="Years that they have reached: 0, 16 or 18.")] = 18,
    bound: Annotated[bool, typer.Option("--bound", help="Bind each token to a new key (DPoP).")] = False,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Create verified voters and print the access token of each, one JSON object per line."""
    if age not in AGE_CLASSES:
        raise typer.BadParameter("must be 0, 16 or 18", param_hint="--age")

    async def run(settings: Settings) -> None:
        tokens = await open_access_tokens(settings)
        async with identity_pools(settings, [cell]) as pools:
            async for issued in issue_voters(pools[cell], tokens, cell, region, count, age=age, bound=bound):
                typer.echo(issued.line())

    _run(lambda: run(identity_settings(data)))


@app.command()
def staff(
    role: Annotated[list[Role], typer.Option(help="May be given more than once.")],
    name: Annotated[str, typer.Option(help="Subject of the token.")] = "staff",
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Print an access token for a member of staff."""

    async def run(settings: Settings) -> None:
        tokens = await open_access_tokens(settings)
        subject = f"u_{name}"
        typer.echo(IssuedToken(tokens.staff(subject, role), subject).line())

    _run(lambda: run(identity_settings(data)))


def _run(command: Callable[[], Coroutine[None, None, None]]) -> None:
    try:
        asyncio.run(command())
    except (LookupError, OSError, ValidationError) as error:  # of which PermissionError is production's
        typer.echo(f"comitia token: {said(error)}", err=True)
        raise typer.Exit(1) from error
