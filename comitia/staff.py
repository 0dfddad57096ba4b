"""`comitia staff`: who may use internal routes, and the first administrator of all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from comitia.cell_access import identity_pools, operator
from comitia.stack_settings import STACK_FOLDER, DataFolder, identity_settings, said
from domain.accounts import KeyedHash, LookupKind
from domain.canonical import provider_login
from domain.errors import DomainError
from domain.ids import STAFF_ID, cell_in, new_staff_id
from domain.staff import DisabledStaff
from domain.tokens import Role
from integrations.keys.file_kms import open_keys
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.purposes import LOOKUP
from integrations.postgres.roles import STAFFING
from integrations.postgres.staff_accounts import PostgresStaffAccounts, StaffRolls

Cell = Annotated[str, typer.Option(help="The cell that knows the login.")]
Mail = Annotated[str, typer.Option(help="Mail address that they log in with.")]
Issuer = Annotated[str, typer.Option(help="Or the identity provider that they log in at: its `iss`.")]
Subject = Annotated[str, typer.Option(help="And what it calls them: their `sub`.")]
T = TypeVar("T")
AddTo = Callable[[PostgresStaffAccounts, LookupKind, Sequence[KeyedHash]], Awaitable[bool]]

app = typer.Typer(help="Members of staff.", no_args_is_help=True)


@app.command()
def bootstrap(
    *, cell: Cell, mail: Mail = "", issuer: Issuer = "", subject: Subject = "", data: DataFolder = STACK_FOLDER
) -> None:
    """Make the first administrator of a cell and print the id; refused where there ever was one.

    Everybody is on the roll of one cell: all cells are asked for the login, and have to be there.
    """
    staff_id = new_staff_id(cell)

    def first(staff: PostgresStaffAccounts, kind: LookupKind, login: Sequence[KeyedHash]) -> Awaitable[bool]:
        return staff.bootstrap(staff_id, kind, login, operator())

    _add(data, cell, (mail, issuer, subject), first, refused=f"{cell} has had its first administrator")
    typer.echo(staff_id)


@app.command()
def add(
    *,
    cell: Cell,
    role: Annotated[list[Role], typer.Option(help="May be given more than once.")],
    mail: Mail = "",
    issuer: Issuer = "",
    subject: Subject = "",
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Add a member of staff and print the id; refused where another one has the login, in any cell: all are asked."""
    staff_id = new_staff_id(cell)

    def member(staff: PostgresStaffAccounts, kind: LookupKind, login: Sequence[KeyedHash]) -> Awaitable[bool]:
        return staff.add(staff_id, set(role), kind, login, operator())

    _add(data, cell, (mail, issuer, subject), member, refused="somebody else logs in with this")
    typer.echo(staff_id)


@app.command()
def disable(
    staff_id: Annotated[str, typer.Argument(help="As `bootstrap` or `add` printed it.")],
    *,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Let a member of staff log in no more. Safe to repeat; the last administrator of a cell cannot be disabled."""
    cell = cell_in(STAFF_ID, staff_id)
    if cell is None:
        raise typer.BadParameter("is no id of a member of staff", param_hint="STAFF_ID")

    async def run() -> DisabledStaff:
        async with identity_pools(identity_settings(data, STAFFING), [cell], STAFFING) as pools:
            return await PostgresStaffAccounts(pools[cell]).disable(staff_id, operator())

    told = _run(run)
    if told is DisabledStaff.UNKNOWN:
        _refuse(f"{cell} knows no {staff_id}")
    if told is DisabledStaff.LAST_ADMINISTRATOR:
        _refuse("this is the last administrator: add another one first")


def _add(data: Path, cell: str, given: tuple[str, str, str], add_to: AddTo, *, refused: str) -> None:
    mail, issuer, subject = given
    if bool(mail) == bool(issuer or subject):
        raise typer.BadParameter("give one of --mail, or --issuer and --subject", param_hint="login")

    async def run() -> bool:
        settings = identity_settings(data, STAFFING)
        hashes = KeyedLookupHashes(open_keys(settings, LOOKUP))
        kind = LookupKind.MAIL if mail else LookupKind.LOGIN
        login = await hashes.every(kind, mail or provider_login(issuer, subject))
        others = sorted(settings.cells.keys() - {cell})
        async with identity_pools(settings, [cell, *others], STAFFING) as pools:
            return await StaffRolls(pools).add(cell, kind, login, lambda roll: add_to(roll, kind, login))

    if not _run(run):
        _refuse(refused)


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """Do something; what cannot be done is said and ends the command with 1."""

    async def run() -> T:
        return await work()

    try:
        return asyncio.run(run())
    except (DomainError, LookupError, OSError, ValidationError) as error:
        _refuse(said(error))
        raise


def _refuse(why: str) -> None:
    typer.echo(f"comitia staff: {why}", err=True)
    raise typer.Exit(1)
