"""How another command asks a running `comitia up` for something: lines of JSON over a socket in the stack's folder."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

_SOCKET = "control"
_PATH_BYTES_MAX = 107  # what the kernel takes

Say = Callable[[str], None]
Restart = Callable[[Sequence[str], Say], Awaitable[None]]


class ControlError(RuntimeError):
    """What was asked for was not done; the message says why."""


@asynccontextmanager
async def controlled(folder: Path, restart: Restart) -> AsyncIterator[None]:
    """Do what is asked for, one request at a time, while the context is open. Only our own user can ask."""
    path = _path(folder)
    busy = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def tell(**words: object) -> None:
            writer.write(json.dumps(words).encode() + b"\n")

        try:
            names = json.loads(await reader.readline())["restart"]
            async with busy:
                await restart(names, lambda text: tell(say=text))
            tell(done=True)
        except (ValueError, KeyError, RuntimeError, OSError) as error:
            tell(failed=str(error))
        finally:
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(serve, path)
    finally:
        os.umask(mask)
    try:
        async with server:
            yield
    finally:
        path.unlink(missing_ok=True)


async def ask_to_restart(folder: Path, names: Sequence[str], say: Say) -> None:
    """Ask the stack that runs in `folder` to replace processes; `say` hears how far it is.

    Raises:
        ControlError: no stack runs there, or it could not do it.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(_path(folder))
    except OSError as error:
        raise ControlError(
            f"no stack with services runs in {folder}: `comitia up` starts one, --data names another"
        ) from error
    try:
        writer.write(json.dumps({"restart": list(names)}).encode() + b"\n")
        async for line in reader:
            told = json.loads(line)
            if "failed" in told:
                raise ControlError(told["failed"])
            if "done" in told:
                return
            say(told["say"])
        raise ControlError("the stack ended meanwhile")
    finally:
        writer.close()


def _path(folder: Path) -> Path:
    """Return where the socket is, as short as it can be said."""
    found = folder.absolute() / _SOCKET
    beside = Path(os.path.relpath(found))
    shortest = min(found, beside, key=lambda path: len(os.fsencode(path)))
    if len(os.fsencode(shortest)) > _PATH_BYTES_MAX:
        raise ControlError(f"the path {found} is too long for a socket")
    return shortest
