"""`comitia doctor`: what this machine has, what it lacks, and how to get it."""

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from comitia.stack import kafka, postgres, redis, temporal
from comitia.stack.account import unprivileged_account
from comitia.stack.built_tools import BUILT_TOOLS, built_tool, tools_folder
from comitia.stack.ports import is_free
from comitia.stack.process import StartError
from comitia.stack.state import read_state
from comitia.up import FIXED_PORTS

_PYTHON_FROM = (3, 11)
_JAVA_FROM = 17
_DISK_FREE_BYTES = 2 * 1024**3
_MEMORY_BYTES = 3 * 1024**3
_OPEN_FILES = 4096
_ASK_TIMEOUT_S = 30.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; what is not `needed` costs comfort only."""

    name: str
    passed: bool
    found: str
    advice: str = ""
    needed: bool = True


def examine(data: Path) -> list[Check]:
    """Look at everything that the stack needs on this machine, with its data in `data`."""
    checks: list[Callable[[], Check]] = [_python, _java, _maven, _jars, _temporal, _postgres, _redis, _built]
    return [*(check() for check in checks), _ports(data), _disk(data), _memory(), _open_files()]


def show(checks: list[Check], console: Console) -> None:
    """Print one line per check, and what to do about those that failed."""
    table = Table("", "what", Column("found", overflow="fold"))
    for check in checks:
        mark = (
            "[green]ok[/green]" if check.passed else "[red]missing[/red]" if check.needed else "[yellow]note[/yellow]"
        )
        table.add_row(mark, check.name, check.found)
    console.print(table)
    for check in checks:
        if not check.passed:
            console.print(f"{check.name}: {check.advice}")


def _python() -> Check:
    wanted = ".".join(map(str, _PYTHON_FROM))
    advice = f"install Python {wanted} or newer, then remove .venv and run make setup"
    return Check("Python", sys.version_info >= _PYTHON_FROM, sys.version.split()[0], advice)


def _java() -> Check:
    advice = f"install Java {_JAVA_FROM} or newer, on Debian: apt-get install openjdk-17-jre-headless"
    text = _ask([kafka.java_command(), "-version"])
    found = re.search(r'version "(\d+)', text)
    return Check("Java", bool(found) and int(found[1]) >= _JAVA_FROM if found else False, _line(text), advice)


def _maven() -> Check:
    text = _ask(["mvn", "-v", "-B"])
    advice = "install Maven, on Debian: apt-get install maven; it fetches Kafka"
    # once the jars are there it has nothing left to do
    return Check("Maven", "Apache Maven" in text, _line(text), advice, needed=not kafka.jars_complete())


def _jars() -> Check:
    folder = kafka.jars_folder()
    return Check(
        "Kafka's jars", kafka.jars_complete(), str(folder), "make setup, or the first comitia up, fetches them"
    )


def _temporal() -> Check:
    binary = temporal.binary()
    text = _ask([str(binary), "--version"]) if binary else ""
    return Check("Temporal", "temporal version" in text, _line(text), "make setup installs it")


def _postgres() -> Check:
    try:
        account = unprivileged_account(Path("/nonexistent"))
        server = postgres.usable_install(account) / "bin" / "postgres"
    except (FileNotFoundError, LookupError, StartError, OSError) as error:
        return Check("PostgreSQL", passed=False, found=str(error), advice="make setup installs it")
    options = {} if account is None else {"user": account.uid, "group": account.gid}
    text = _ask([str(server), "--version"], **options)
    return Check("PostgreSQL", "(PostgreSQL)" in text, f"{_line(text)}, {server}", "make setup installs it again")


def _redis() -> Check:
    binary = redis.binary()
    text = _ask([str(binary), "--version"]) if binary else ""
    return Check("Valkey (Redis)", "v=" in text, " ".join(text.split()[:3]), "make setup installs it")


def _built() -> Check:
    missing = [name for name in BUILT_TOOLS if built_tool(name) is None]
    go = _line(_ask(["go", "version"]))
    found = f"not built: {', '.join(missing)}; Go: {go}" if missing else str(tools_folder() / "bin")
    advice = (
        "make tools builds them, which needs Go 1.26 or newer. Without them there is no comitia up --temporal-server, "
        "and tests of it, of network faults, of locked objects, of AWS KMS and of what public tools read are left out"
    )
    return Check("Tools built from Go", not missing, found, advice, needed=False)


def _ports(data: Path) -> Check:
    state = read_state(data)
    if state is not None and state.supervisor_pid and Path(f"/proc/{state.supervisor_pid}").exists():
        return Check("Ports", passed=True, found=f"a stack runs in {data}: its own are not looked at")
    taken = [f"{port} ({name})" for name, port in FIXED_PORTS.items() if not is_free(port)]
    advice = "comitia up takes other ports for these and says which; --port NAME=NUMBER chooses"
    return Check("Ports", not taken, f"taken: {', '.join(taken)}" if taken else "all free", advice, needed=False)


def _disk(data: Path) -> Check:
    folder = next(path for path in (data.absolute(), *data.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    advice = f"free {_gib(_DISK_FREE_BYTES)} or choose another folder with --data"
    return Check("Disk", free >= _DISK_FREE_BYTES, f"{_gib(free)} free in {folder}", advice)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    advice = f"the stack wants {_gib(_MEMORY_BYTES)}: close something large"
    return Check("Memory", total >= _MEMORY_BYTES, _gib(total), advice, needed=False)


def _open_files() -> Check:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= _OPEN_FILES
    advice = f"raise the hard limit (ulimit -Hn) to {_OPEN_FILES} or more: each stream of results is a file"
    return Check("Open files", enough, "no limit" if hard == resource.RLIM_INFINITY else str(hard), advice)


def _ask(command: list[str], **options: int) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_ASK_TIMEOUT_S,
            check=False,
            cwd="/",
            user=options.get("user"),
            group=options.get("group"),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return _COLOUR.sub("", done.stdout + done.stderr)


def _line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "not found"


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"
