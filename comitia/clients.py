"""`comitia clients`: machine clients of a cell, with roles and a limit of their own."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from comitia.cell_access import identity_pools, operator
from comitia.stack_settings import STACK_FOLDER, DataFolder, identity_settings, said
from domain.errors import DomainError
from domain.ids import new_client_id
from domain.tokens import Role
from integrations.postgres.api_clients import ApiClients
from integrations.postgres.roles import STAFFING

Cell = Annotated[str, typer.Option(help="The cell that knows the client.")]

T = TypeVar("T")

app = typer.Typer(help="Create and disable machine clients.", no_args_is_help=True)


@app.command()
def create(
    *,
    cell: Cell,
    name: Annotated[str, typer.Option(help="What it is for; 1 to 200 characters.")],
    role: Annotated[list[Role], typer.Option(help="May be given more than once.")],
    per_minute: Annotated[int, typer.Option(min=1, max=1_000_000, help="Requests that it may make per minute.")] = 600,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Create a client and print its id and its key, which is shown this once: nobody can read it again."""
    if not 1 <= len(name) <= 200:  # noqa: PLR2004 - as the table has it
        raise typer.BadParameter("takes 1 to 200 characters", param_hint="--name")
    client_id = new_client_id()
    api_key = _run(
        data, cell, lambda clients: clients.create(cell, client_id, name, role, per_minute, actor=operator())
    )
    typer.echo(f"{client_id} {api_key}")


@app.command()
def disable(
    client_id: Annotated[str, typer.Argument(help="As `create` printed it.")],
    *,
    cell: Cell,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Let a client in no more, from five seconds on everywhere. Safe to repeat."""
    if not _run(data, cell, lambda clients: clients.disable(cell, client_id, actor=operator())):
        typer.echo(f"comitia clients: no client {client_id} in {cell}", err=True)
        raise typer.Exit(1)


def _run(folder: Path, cell: str, work: Callable[[ApiClients], Awaitable[T]]) -> T:
    """Do something in a cell; what cannot be done is said and ends the command with 1."""

    async def run() -> T:
        settings = identity_settings(folder, STAFFING)
        async with identity_pools(settings, [cell], STAFFING) as pools:
            return await work(ApiClients(pools))

    try:
        return asyncio.run(run())
    except (DomainError, LookupError, OSError, ValidationError) as error:
        typer.echo(f"comitia clients: {said(error)}", err=True)
        raise typer.Exit(1) from error
