"""`comitia roll`: electoral rolls of surveys whose electorate is a list."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from comitia.cell_access import identity_pools, operator
from comitia.roll_import import OtherReportError, RollImport
from comitia.stack_settings import STACK_FOLDER, DataFolder, identity_settings, said
from domain.errors import DomainError
from domain.ids import SURVEY_ID
from domain.rolls import ON_ROLL, RollOutcome
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import DOCUMENT
from integrations.postgres.roles import ROLLS
from integrations.postgres.rolls import PostgresRolls

app = typer.Typer(help="Electoral rolls.", no_args_is_help=True)


@app.callback()
def roll() -> None:
    """Keep the command below in a group."""


@app.command("import")
def import_roll(
    source: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="CSV in UTF-8; columns voter_id, or country (alpha-3), kind, number."
        ),
    ],
    *,
    survey: Annotated[str, typer.Option(help="Of which survey.")],
    cell: Annotated[str, typer.Option(help="Home of persons whom nobody knows yet.")],
    report: Annotated[
        Path | None, typer.Option(help="Where the outcome of each row goes; FILE.report without it.")
    ] = None,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Put the persons of a list on a survey's roll; one who registers later is on it too.

    Run it again after an interruption: it goes on where its report ends. Exit 1 where a row is not on the roll.
    """
    if SURVEY_ID.fullmatch(survey) is None:
        raise typer.BadParameter("is no id of a survey", param_hint="--survey")
    written = report or source.with_name(f"{source.name}.report")
    try:
        counted = asyncio.run(_import(data, source, written, survey, cell))
    except (DomainError, LookupError, OSError, OtherReportError, ValidationError, ValueError) as error:
        typer.echo(f"comitia roll: {said(error)}", err=True)
        raise typer.Exit(1) from error
    for outcome in RollOutcome:
        if counted[outcome]:
            typer.echo(f"{outcome} {counted[outcome]}")
    raise typer.Exit(0 if set(+counted) <= ON_ROLL else 1)


async def _import(data: Path, source: Path, report: Path, survey: str, cell: str) -> Counter[RollOutcome]:
    settings = identity_settings(data, ROLLS)
    if cell not in settings.cells:
        raise LookupError(f"no cell {cell}; there are {', '.join(sorted(settings.cells)) or 'none'}")
    hashes = KeyedLookupHashes(open_keys(settings, DOCUMENT))
    async with identity_pools(settings, settings.cells, ROLLS) as pools:  # all: their names say where a claim is
        rolls = {name: PostgresRolls(pool) for name, pool in pools.items()}
        return await RollImport(rolls, hashes, survey, cell, operator()).run(source, report)
