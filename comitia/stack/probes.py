"""Small questions to a server that may not be there yet: each answers False instead of raising."""

import asyncio
import json
import struct
from http import HTTPStatus
from typing import Any

_TIMEOUT_S = 2.0
_METADATA_V0 = struct.pack(">hhihi", 3, 0, 1, -1, 0)  # api key, version, correlation, no client id, no topics


async def exchange(host: str, port: int, request: bytes, *, until_closed: bool = False) -> bytes:
    """Send `request` and return what comes back first, or all of it; empty where nobody answers in 2 s."""
    writer = None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(request)
            await writer.drain()
            return await (reader.read() if until_closed else reader.read(65536))
    except (OSError, TimeoutError):
        return b""
    finally:
        if writer is not None:
            writer.close()


async def listens(host: str, port: int) -> bool:
    """Tell whether somebody accepts connections there."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def redis_answers(host: str, port: int) -> bool:
    """Tell whether a Redis serves commands: it has loaded its file, or wants a password first."""
    return (await exchange(host, port, b"PING\r\n")).startswith((b"+PONG", b"-NOAUTH"))


async def kafka_answers(host: str, port: int, *, brokers: int = 1) -> bool:
    """Tell whether a broker names so many live brokers in its metadata: only then topics can be made on them."""
    answer = await exchange(host, port, struct.pack(">i", len(_METADATA_V0)) + _METADATA_V0)
    # size, correlation, count
    return len(answer) >= 12 and struct.unpack(">i", answer[8:12])[0] >= brokers  # noqa: PLR2004


async def http_get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a GET, or status 0 where nobody answers."""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: application/json\r\n\r\n"
    head, _, body = (await exchange(host, port, request.encode(), until_closed=True)).partition(b"\r\n\r\n")
    fields = head.split(b" ", 2)
    return (int(fields[1]), body) if len(fields) > 1 and fields[1].isdigit() else (0, b"")


async def http_ok(host: str, port: int, path: str) -> bool:
    """Tell whether a GET is answered with 200."""
    return (await http_get(host, port, path))[0] == HTTPStatus.OK


async def http_json(host: str, port: int, path: str) -> dict[str, Any]:
    """Return the object that a GET answers with 200, or an empty one."""
    status, body = await http_get(host, port, path)
    found: dict[str, Any] = json.loads(body) if status == HTTPStatus.OK else {}
    return found
