"""`comitia demo`: a stack of its own or one that runs, the election on it, and an exit status that says how it went."""

import asyncio
import fcntl
import shutil
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from comitia.demo.checking import described
from comitia.demo.client import NoAnswerError
from comitia.demo.display import addresses
from comitia.demo.identity import walk
from comitia.demo.people import WalkError
from comitia.demo.run import Place, Wanted, hold_election
from comitia.demo.survey import RefusedError
from comitia.stack import postgres
from comitia.stack.ports import HOST
from comitia.stack.servers import FolderInUseError
from comitia.stack.state import StackState, read_state
from comitia.up import FIXED_PORTS, end_on_signals, enter_stack
from integrations.postgres.roles import IDENTITY, TALLY

OWN_FOLDER = Path(".comitia") / "demo"
AGREES, DIFFERS, INTERRUPTED = 0, 1, 130


async def demo(folder: Path | None, wanted: Wanted, console: Console, *, keep: bool, free_ports: bool) -> int:
    """Run the demo until it is done or Ctrl-C and return the exit status: 0 where every number agrees.

    On the stack that runs in `folder`, or else on one that is started there and stopped again. Without `folder` it has
    one of its own, emptied first. With `keep` the stack stays until Ctrl-C.

    Raises:
        FolderInUseError: something is being started in `folder`.
        StartError: the stack did not come up.
    """

    async def hold(lifetime: AsyncExitStack) -> int:
        return await _demo(lifetime, folder, wanted, console, free_ports=free_ports)

    return await _until_told(hold, console, keep=keep)


async def demo_identity(folder: Path | None, console: Console, *, free_ports: bool) -> int:
    """Walk a person's way as `demo` runs the election; return the exit status. Raises as `demo`."""

    async def go(lifetime: AsyncExitStack) -> int:
        state = running_stack(folder or OWN_FOLDER)
        if state is None:
            state = await _start(lifetime, folder, console, free_ports=free_ports)
        console.print(addresses(_rows(state)))
        try:
            await walk(state.urls, state.settings_for(IDENTITY), console)
        except (WalkError, httpx.HTTPError, TimeoutError) as error:
            console.print(f"not finished: {error!r}", markup=False, highlight=False)
            return DIFFERS
        console.print("every step ended as it must")
        return AGREES

    return await _until_told(go, console, keep=False)


async def _until_told(
    show: Callable[[AsyncExitStack], Coroutine[Any, Any, int]], console: Console, *, keep: bool
) -> int:
    ended = end_on_signals()
    async with AsyncExitStack() as lifetime:
        running = asyncio.create_task(show(lifetime))
        waiting = asyncio.create_task(ended.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            console.print("stopping")
            return INTERRUPTED
        status = running.result()
        if keep:
            console.print("everything stays up until Ctrl-C")
            await waiting
        waiting.cancel()
        return status


async def _demo(
    lifetime: AsyncExitStack, folder: Path | None, wanted: Wanted, console: Console, *, free_ports: bool
) -> int:
    state = running_stack(folder or OWN_FOLDER)
    if state is None:
        state = await _start(lifetime, folder, console, free_ports=free_ports)
    console.print(addresses(_rows(state)))
    try:
        differences = await hold_election(Place(state.urls, state.settings_for(IDENTITY, TALLY)), wanted, console)
    except (NoAnswerError, RefusedError) as error:
        console.print(f"not finished: {error}", markup=False, highlight=False)
        return DIFFERS
    for line in described(differences):
        console.print(f"difference: {line}", markup=False, highlight=False)
    return DIFFERS if differences else AGREES


async def _start(lifetime: AsyncExitStack, folder: Path | None, console: Console, *, free_ports: bool) -> StackState:
    if folder is None:
        _empty(OWN_FOLDER)
    ports: Mapping[str, int] = {} if free_ports else FIXED_PORTS
    with console.status("starting servers and services"):
        stack = await enter_stack(lifetime, folder or OWN_FOLDER, console, wanted_ports=ports, services=True)
    return stack.state


def running_stack(folder: Path) -> StackState | None:
    """Return the stack whose services run in a folder, or None."""
    state = read_state(folder)
    if state is None or "api-votes" not in state.urls or not _is_locked(folder):
        return None
    return state


def _empty(folder: Path) -> None:
    """Remove what an earlier demo left. Raises FolderInUseError where something runs there."""
    if _is_locked(folder):
        raise FolderInUseError(f"something runs in {folder} already")
    state = read_state(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if state is not None:
        postgres.forget(state.stack_id)


def _is_locked(folder: Path) -> bool:
    """Tell whether a supervisor holds the folder; what a killed one left behind is not held."""
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _rows(state: StackState) -> list[tuple[str, str]]:
    rows = [(name, f"{url}/docs") for name, url in sorted(state.urls.items()) if name.startswith("api-")]
    if "temporal-ui" in state.ports and "temporal" in state.pids:
        rows.append(("Temporal's UI", f"http://{HOST}:{state.ports['temporal-ui']}"))
    return rows
