"""`comitia staff`: who may use internal routes, and the first administrator of all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from comitia.cell_access import identity_pools, operator
from comitia.stack_settings import STACK_FOLDER, DataFolder, identity_settings, said
from domain.accounts import KeyedHash, LookupKind
from domain.canonical import provider_login, provider_person
from domain.errors import DomainError
from domain.ids import STAFF_ID, cell_in, new_staff_id
from domain.staff import DisabledStaff
from domain.tokens import Role
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import LOOKUP
from integrations.postgres.roles import STAFFING
from integrations.postgres.staff_accounts import PostgresStaffAccounts, StaffRolls
from integrations.settings import Settings

Cell = Annotated[str, typer.Option(help="The cell that knows the login.")]
Mail = Annotated[str, typer.Option(help="Mail address that they log in with.")]
Issuer = Annotated[str, typer.Option(help="Or the identity provider that they log in at: its `iss`.")]
Subject = Annotated[str, typer.Option(help="And what it calls them: their `sub`.")]
Person = Annotated[
    str,
    typer.Option(help="Which person it says they are, where `person_claim` is set: the same in all their accounts."),
]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Given:
    """How somebody logs in, as the options say it."""

    mail: str
    issuer: str
    subject: str
    person: str


@dataclass(frozen=True, slots=True)
class Login:
    """The same as hashes: a login, and a person where one is named."""

    kind: LookupKind
    login: Sequence[KeyedHash]
    person: Sequence[KeyedHash]


AddTo = Callable[[PostgresStaffAccounts, Login], Awaitable[bool]]

app = typer.Typer(help="Members of staff.", no_args_is_help=True)


@app.command()
def bootstrap(
    *,
    cell: Cell,
    mail: Mail = "",
    issuer: Issuer = "",
    subject: Subject = "",
    person: Person = "",
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Make the first administrator of a cell and print the id; refused where there ever was one.

    Everybody is on the roll of one cell: all cells are asked for the login, and have to be there.
    """
    staff_id = new_staff_id(cell)

    def first(staff: PostgresStaffAccounts, by: Login) -> Awaitable[bool]:
        return staff.bootstrap(staff_id, by.kind, by.login, operator(), person=by.person)

    given = Given(mail, issuer, subject, person)
    _add(data, cell, given, first, refused=f"{cell} has had its first administrator")
    typer.echo(staff_id)


@app.command()
def add(
    *,
    cell: Cell,
    role: Annotated[list[Role], typer.Option(help="May be given more than once.")],
    mail: Mail = "",
    issuer: Issuer = "",
    subject: Subject = "",
    person: Person = "",
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Add a member of staff and print the id; refused where another one has the login, in any cell: all are asked."""
    staff_id = new_staff_id(cell)

    def member(staff: PostgresStaffAccounts, by: Login) -> Awaitable[bool]:
        return staff.add(staff_id, set(role), by.kind, by.login, operator(), person=by.person)

    given = Given(mail, issuer, subject, person)
    _add(data, cell, given, member, refused="somebody else logs in with this, or is this person")
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


def _add(data: Path, cell: str, given: Given, add_to: AddTo, *, refused: str) -> None:
    if bool(given.mail) == bool(given.issuer or given.subject):
        raise typer.BadParameter("give one of --mail, or --issuer and --subject", param_hint="login")

    async def run() -> bool:
        settings = identity_settings(data, STAFFING)
        by = await _hashed(settings, given)
        others = sorted(settings.cells.keys() - {cell})
        async with identity_pools(settings, [cell, *others], STAFFING) as pools:
            return await StaffRolls(pools).add(cell, by.kind, by.login, lambda roll: add_to(roll, by), person=by.person)

    if not _run(run):
        _refuse(refused)


async def _hashed(settings: Settings, given: Given) -> Login:
    """Return what somebody logs in with.

    Raises:
        LookupError: the provider of staff names persons and none is given, or one is given and no provider.
        DomainError: `malformed_request`, `key_unavailable`.
    """
    hashes, provider = KeyedLookupHashes(open_keys(settings, LOOKUP)), settings.staff_provider
    if not given.person and provider is not None and provider.person_claim:
        raise LookupError(f"--person is missing: the identity provider says it as {provider.person_claim}")
    issuer = given.issuer or (provider.issuer if provider is not None else "")
    if given.person and not issuer:
        raise LookupError("--person is of an identity provider: say which, with --issuer")
    kind = LookupKind.MAIL if given.mail else LookupKind.LOGIN
    login = await hashes.every(kind, given.mail or provider_login(given.issuer, given.subject))
    person = provider_person(issuer, given.person) if given.person else ""
    return Login(kind, login, await hashes.every(LookupKind.LOGIN, person) if person else ())


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
