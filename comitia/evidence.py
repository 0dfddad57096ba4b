"""`comitia evidence`: what of one case convinces a third party, for compliance."""

import asyncio
import json
import os
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from api.compliance.evidence import Asked
from api.compliance.evidence_cells import bundle_keys, evidence_desk
from comitia.cell_access import operator
from comitia.stack_settings import STACK_FOLDER, DataFolder, identity_settings
from domain.cases import case_at
from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import EvidenceReason
from domain.submissions import SubmissionIds, claimed_place
from integrations.identity_cell import IdentityCell, open_identity_cell
from integrations.keys.opening import open_keys
from integrations.keys.purposes import AUDIT_LOG, BUNDLE, DAILY, HISTORY, SUBMISSION, public
from integrations.objects.log_objects import open_log_objects
from integrations.postgres.pool import open_pool, pool_on_demand
from integrations.postgres.roles import IDENTITY, SEARCH
from integrations.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Evidence of cases, for a third party.")

_FAILURES = (DomainError, LookupError, OSError, RuntimeError, ValidationError)


@app.command()
def export(
    case: Annotated[
        str,
        typer.Argument(metavar="CASE", help="Its id; of a vote that of its submission."),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Where the bundle is written; what is there is replaced.")],
    reason: Annotated[EvidenceReason, typer.Option("--reason", help="Why; it is in the audit log.")],
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Write the signed bundle of a case, for `comitia verify bundle` on any machine; of an open one as far as it is."""
    console = Console(soft_wrap=True)
    try:
        content = asyncio.run(export_case(identity_settings(data, IDENTITY, SEARCH), case, reason))
        _write(out, content)
    except _FAILURES as error:
        console.print(f"not exported: {error}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    console.print(f"wrote {out}: {len(content):,} bytes", markup=False, highlight=False)


@app.command()
def keys(*, data: DataFolder = STACK_FOLDER) -> None:
    """Print the public keys that check bundles, as one JSON document."""
    try:
        settings = identity_settings(data)
        found = asyncio.run(bundle_keys(settings, open_keys(settings, BUNDLE, public(AUDIT_LOG))))
    except _FAILURES as error:
        typer.echo(f"no keys: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(found.document(), indent=1))


async def export_case(settings: Settings, case_id: str, reason: EvidenceReason) -> bytes:
    """Return the bundle of a case, its audit entry committed in the name of whoever gives the command.

    Raises:
        LookupError: there is no such cell, or no store of audit logs.
        RuntimeError: the cell's Temporal cannot be reached.
        DomainError: as `EvidenceDesk.export`.
    """
    address = case_at(case_id)
    if address is None and claimed_place(case_id) is None:
        raise DomainError(ErrorCode.CASE_NOT_FOUND)
    names = tuple(settings.cells) if address is None else (address.cell,)  # the id of a vote names no cell
    keys = open_keys(settings, BUNDLE, HISTORY, DAILY, SUBMISSION, public(AUDIT_LOG))
    cells: dict[str | None, IdentityCell] = {}
    places = {}
    async with AsyncExitStack() as lifetime:
        for name in names:
            if name not in settings.cells:
                raise LookupError(f"no cell {name}")
            pool = await open_pool(settings.cells[name].database, settings, IDENTITY, size=2)
            lifetime.push_async_callback(pool.close)
            cells[name] = await open_identity_cell(name, settings, keys, pool)
            places[name] = await pool_on_demand(settings.cells[name].database, settings, SEARCH, size=1)
            lifetime.push_async_callback(places[name].close)
        ids = SubmissionIds((await keys.current(SUBMISSION)).secret)
        desk = evidence_desk(settings, keys, open_log_objects(settings), cells.__getitem__, ids=ids, places=places)
        return await desk.export(Asked(case_id, reason, operator(), role="", key=secrets.token_hex(16)))


def _write(path: Path, content: bytes) -> None:
    """Write a file that others on this machine cannot read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
