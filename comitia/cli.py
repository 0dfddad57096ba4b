"""The command line: `comitia up`, `comitia doctor` and the rest."""

import asyncio
import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar

import structlog
import typer
from pydantic import SecretStr
from rich.console import Console

from comitia.command_modules import CommandModules
from comitia.stack.state import CATALOGUE, CELLS, read_state
from comitia.stack.topology import BROKERS, Topology
from comitia.stack_settings import has_addresses, nowhere
from comitia.terminal import Terminal
from integrations.postgres.roles import OWNER


class _Commands(CommandModules):
    elsewhere: ClassVar[Mapping[str, str]] = {
        "token": "comitia.tokens:app",
        "tally": "comitia.tally:app",
        "clients": "comitia.clients:app",
        "reconcile": "comitia.reconciliation:reconcile",
        "replay": "comitia.replay:replay",
        "rejudge": "comitia.rejudge:rejudge",
        "verify": "comitia.verify:app",
        "keys": "comitia.keys:app",
        "roll": "comitia.roll:app",
        "staff": "comitia.staff:app",
        "audit": "comitia.audit:app",
        "archive": "comitia.archive:app",
        "evidence": "comitia.evidence:app",
        "sign-in": "comitia.passes:sign_in",
        "request": "comitia.passes:request",
    }


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

DataFolder = Annotated[
    Path, typer.Option("--data", envvar="COMITIA_DATA", help="Where the data of all servers is kept between runs.")
]
DEFAULT_DATA = Path(".comitia")


@app.callback()
def quiet() -> None:
    """Run, look at and use Comitia on one machine."""
    # What a command prints is read by people and programs: events of our own code go beside it, and only bad news.
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


@app.command()
def up(
    *,
    data: DataFolder = DEFAULT_DATA,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="Start no service of ours.")] = False,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take any free ports.")] = False,
    port: Annotated[
        list[str] | None, typer.Option("--port", help="A port of your choice, as api-votes=9000. Repeatable.")
    ] = None,
    temporal_server: Annotated[
        bool, typer.Option("--temporal-server", help="Production's Temporal on a PostgreSQL of its own.")
    ] = False,
    kafka_brokers: Annotated[
        int,
        typer.Option(
            "--kafka-brokers",
            callback=lambda brokers: _possible(brokers),  # noqa: PLW0108 - defined below
            help="1, or 3: then every summary is in two of them or more.",
        ),
    ] = 1,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby",
            help="A synchronous standby and an archive for each database, and for the store of --temporal-server.",
        ),
    ] = False,
) -> None:
    """Start every server and service on this machine and stay until Ctrl-C."""
    from comitia import up as running  # noqa: PLC0415 - each command loads what it needs

    console = Terminal()
    wanted = {} if free_ports else dict(running.FIXED_PORTS)
    wanted.update(_chosen_ports(port or [], known=running.FIXED_PORTS))
    with _starting(console):
        topology = Topology(
            temporal_server=temporal_server,
            kafka_brokers=kafka_brokers,
            standby=standby,
            temporal_standby=standby and temporal_server,
        )
        asyncio.run(running.up(data, console, wanted_ports=wanted, services=not servers_only, topology=topology))


@app.command()
def backup(
    cell: Annotated[str, typer.Argument(help="A cell, or `catalogue`.")], data: DataFolder = DEFAULT_DATA
) -> None:
    """Take a base backup of one database; its log is archived all the time. Needs `comitia up --standby`."""
    from comitia import restore as restoring  # noqa: PLC0415 - each command loads what it needs
    from comitia.stack.process import StartError  # noqa: PLC0415

    console = Console(soft_wrap=True)
    try:
        restoring.run_backup(data, cell, console)
    except (StartError, restoring.NoPairError) as error:
        console.print("no backup:", str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None


@app.command()
def restore(
    *,
    cell: Annotated[str, typer.Argument(help="A cell, or `catalogue`.")],
    to: Annotated[
        str, typer.Option("--to", help="An instant as 2026-05-07T22:00:00+00:00, or a position as 0/3000148.")
    ] = "",
    notes: Annotated[
        Path | None, typer.Option("--notes", help="Submission ids that were confirmed, one a line: each must be there.")
    ] = None,
    data: DataFolder = DEFAULT_DATA,
) -> None:
    """Bring one database back from its archive, check it, and let it serve; exit 1 where it is not whole."""
    from comitia import restore as restoring  # noqa: PLC0415 - each command loads what it needs
    from comitia.stack.pair_restore import RestoreError  # noqa: PLC0415
    from comitia.stack.process import StartError  # noqa: PLC0415

    console = Console(soft_wrap=True)
    try:
        restoring.run_restore(data, cell, restoring.read_target(to), notes, console)
    except restoring.FailedCheckError as error:
        restoring.show(error.report, console)
        console.print("not restored: what is there is as it was")
        raise typer.Exit(1) from None
    except (StartError, RestoreError, restoring.NoPairError, OSError, ValueError) as error:
        console.print("not restored:", str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None


@app.command()
def restart(
    names: Annotated[
        list[str] | None, typer.Argument(help="Processes such as api-votes; all of them where none is named.")
    ] = None,
    data: DataFolder = DEFAULT_DATA,
) -> None:
    """Replace services of the stack that runs in a folder by the present code, one by one, turning nobody away."""
    from comitia.stack.control import ControlError, ask_to_restart  # noqa: PLC0415

    console = Console(soft_wrap=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    try:
        asyncio.run(ask_to_restart(data, names or [], say))
    except ControlError as error:
        console.print("not restarted:", str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None


demos = typer.Typer(invoke_without_command=True)
app.add_typer(demos, name="demo")


@demos.callback()
def demo(
    context: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", help="Cast every one of the 173,289 ballots.")] = False,
    votes: Annotated[int, typer.Option(min=1, max=173_289, help="How many of the ballots to cast.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Which ballots, in which order.")] = 2022,
    clients: Annotated[int, typer.Option(min=1, max=2000, help="How many voters vote at the same time.")] = 256,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards until Ctrl-C.")] = False,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take any free ports.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="A folder of yours, or of a running stack; otherwise .comitia/demo, emptied first."
        ),
    ] = None,
) -> None:
    """Run the Glasgow election of 2022 through everything; exit 1 where a total differs from the file."""
    if context.invoked_subcommand is not None:
        return
    from comitia.demo.command import demo as run_demo  # noqa: PLC0415 - each command loads what it needs
    from comitia.demo.run import Wanted  # noqa: PLC0415

    console = Terminal()
    wanted = Wanted(None if every else votes, seed, clients)
    with _starting(console):
        status = asyncio.run(run_demo(data, wanted, console, keep=keep, free_ports=free_ports))
    raise typer.Exit(status)


@demos.command()
def identity(
    *,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take any free ports.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="A folder of yours, or of a running stack; otherwise .comitia/demo, emptied first."
        ),
    ] = None,
) -> None:
    """Go the way of one person past vendors that fail; exit 1 where anything ends otherwise than it must."""
    from comitia.demo.command import demo_identity  # noqa: PLC0415 - each command loads what it needs

    console = Terminal()
    with _starting(console):
        status = asyncio.run(demo_identity(data, console, free_ports=free_ports))
    raise typer.Exit(status)


@app.command()
def doctor(data: DataFolder = DEFAULT_DATA) -> None:
    """Say what is missing on this machine and how to get it; exit 1 where the stack could not run."""
    from comitia.doctor import examine, show  # noqa: PLC0415

    checks = examine(data)
    show(checks, Console(soft_wrap=True))
    raise typer.Exit(0 if all(check.passed or not check.needed for check in checks) else 1)


@app.command()
def migrate(
    *,
    data: DataFolder = DEFAULT_DATA,
    finish: Annotated[
        bool, typer.Option("--finish", help="No process of the release before runs: take away what only it needs.")
    ] = False,
) -> None:
    """Bring every database to the newest revision: those in the environment, or else those of the running stack."""
    from integrations.postgres.migrate import LaterSchemaError, Tree  # noqa: PLC0415
    from integrations.postgres.migrate import migrate as run  # noqa: PLC0415
    from integrations.settings import Settings  # noqa: PLC0415

    console = Console(soft_wrap=True)
    if has_addresses():
        settings = Settings()
        addresses = {cell: servers.database for cell, servers in settings.cells.items()}
        if settings.catalogue is not None:
            addresses[CATALOGUE] = settings.catalogue
        password = settings.password(OWNER)
    else:
        state = read_state(data)
        if state is None or not state.supervisor_pid:
            console.print(nowhere(data), markup=False, highlight=False)
            raise typer.Exit(1)
        addresses = {name: state.database(name) for name in (*CELLS, CATALOGUE)}
        password = SecretStr(state.password(OWNER))
    for name, address in addresses.items():
        try:
            reached = run(address, password, Tree.CATALOGUE if name == CATALOGUE else Tree.CELL, finish=finish)
        except LaterSchemaError as error:
            console.print("not migrated:", str(error), markup=False, highlight=False)
            raise typer.Exit(1) from None
        console.print(f"{name}: {reached}")


@contextmanager
def _starting(console: Console) -> Iterator[None]:
    """End the command with 1 where a stack cannot be started, and say why and what to do."""
    from comitia.stack.process import StartError  # noqa: PLC0415
    from comitia.stack.servers import FolderInUseError  # noqa: PLC0415

    missing = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError)
    try:
        yield
    except (StartError, FolderInUseError, ValueError, *missing) as error:
        console.print("not started:", str(error), markup=False, highlight=False)
        if isinstance(error, FolderInUseError):
            console.print("Use it, stop it with Ctrl-C where it runs, or choose another folder with --data")
        elif isinstance(error, missing):
            console.print("`comitia doctor` says what is missing and how to get it; --data chooses another folder")
        raise typer.Exit(1) from None


def _possible(brokers: int) -> int:
    if brokers not in BROKERS:
        raise typer.BadParameter(f"{brokers} is none of {', '.join(map(str, BROKERS))}")
    return brokers


def _chosen_ports(given: list[str], known: Collection[str]) -> dict[str, int]:
    chosen = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in known or not number.isdigit():
            names = ", ".join(sorted(known))
            raise typer.BadParameter(f"{text!r} is no NAME=NUMBER with one of {names}", param_hint="--port")
        chosen[name] = int(number)
    return chosen


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
