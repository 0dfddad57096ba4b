"""Connections to vendors, byte for byte: what is taken for an answer, and when a connection is used again."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from integrations.vendor_connections import VendorConnections
from tests.certificates import certificate

BODY_MAX = 1000
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


@dataclass
class Vendor:
    """Answers each request with the next of its answers, the last one for ever, and keeps what it read."""

    answers: list[bytes | None]  # None: nothing, for as long as the client waits
    closes: bool = False  # after each answer
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # a client closed its connection

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.requests.append(head + await reader.readexactly(int(length or 0)))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is not None:
                    writer.write(answer)
                if self.closes:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def client_of(
    vendor: Vendor,
    *,
    connections: int = 2,
    idle_s: float = 60.0,
    served: ssl.SSLContext | None = None,
    trusted: ssl.SSLContext | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    server = await asyncio.start_server(vendor.serve, "127.0.0.1", 0, ssl=served)
    url = f"http{'s' if served else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = VendorConnections(connections=connections, idle_s=idle_s, body_max=BODY_MAX, tls=trusted)
    async with server, httpx.AsyncClient(base_url=url, transport=transport, timeout=5) as client:
        async with asyncio.timeout(20):
            yield client


async def test_a_request_goes_out_as_it_is_and_its_connection_is_used_again() -> None:
    vendor = Vendor([OK])
    async with client_of(vendor) as client:
        answer = await client.post("/a?b=c", content=b"body", headers={"x-one": "1"})
        assert (answer.status_code, answer.content) == (200, b"ok")
        assert (await client.get("/d")).content == b"ok"
    first, second = vendor.requests
    assert first.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert first.endswith(b"\r\n\r\nbody")
    assert b"\r\nx-one: 1\r\n" in first
    assert second.startswith(b"GET /d HTTP/1.1\r\n")
    assert vendor.connections == 1


async def test_a_body_in_pieces_is_sent_with_its_length() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    vendor = Vendor([OK])
    async with client_of(vendor) as client:
        await client.post("/", content=pieces())
    assert vendor.requests[0].endswith(b"one two")
    assert b"\r\ncontent-length: 7\r\n" in vendor.requests[0]
    assert b"chunked" not in vendor.requests[0]


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK, b"ok"),
    ],
    ids=["chunked", "empty", "hints-first"],
)
async def test_every_framing_ends_where_it_says(answer: bytes, content: bytes) -> None:
    vendor = Vendor([answer])
    async with client_of(vendor) as client:
        for _ in range(2):
            found = await client.get("/")
            assert found.content == content
            assert "link" not in found.headers
    assert vendor.connections == 1


@pytest.mark.parametrize("vendor", [Vendor([LAST]), Vendor([OK], closes=True)], ids=["said", "unsaid"])
async def test_a_connection_that_is_over_is_not_used_again(vendor: Vendor) -> None:
    async with client_of(vendor) as client:
        for turn in range(1, 4):
            assert (await client.get("/")).content == b"ok"
            await asyncio.sleep(0.05)  # what the server closes unsaid is seen when the loop gets to it
            assert vendor.connections == turn


async def test_a_connection_that_was_idle_for_long_is_not_used_again() -> None:
    vendor = Vendor([OK])
    async with client_of(vendor, idle_s=0.0) as client:
        await client.get("/")
        await client.get("/")
    assert vendor.connections == 2


async def test_an_answer_of_no_said_length_ends_with_its_connection() -> None:
    vendor = Vendor([b"HTTP/1.1 200 OK\r\n\r\nto the end"], closes=True)
    async with client_of(vendor) as client:
        assert (await client.get("/")).content == b"to the end"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nless",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b" " * 2000,
        OK + OK,
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=["short", "cut-chunks", "cut-head", "nothing", "two-lengths", "two-framings", "other", "large", "two", "ssh"],
)
async def test_what_is_no_whole_answer_is_none_and_the_next_request_has_another_connection(answer: bytes) -> None:
    vendor = Vendor([answer, OK], closes=True)
    async with client_of(vendor) as client:
        with pytest.raises(httpx.TransportError):
            await client.get("/")
        assert (await client.get("/")).content == b"ok"
    assert (vendor.connections, len(vendor.requests)) == (2, 2)  # and nothing was sent twice


@pytest.mark.parametrize(
    "piece",
    [b"x-more: 1\r\n", b"a", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"1\r\na\r\n"],
    ids=["headers", "header", "hints", "crumbs"],
)
async def test_an_answer_whose_head_has_no_end_is_none(piece: bytes) -> None:
    begin = b"HTTP/1.1 200 OK\r\nx-first: " if piece == b"a" else b"HTTP/1.1 200 OK\r\n"
    begin = {b"H": b"", b"1": begin + b"transfer-encoding: chunked\r\n\r\n"}.get(piece[:1], begin)
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(begin)
        with suppress(ConnectionError):
            while True:
                writer.write(piece * 1000)
                sent += 1000 * len(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = VendorConnections(connections=1, idle_s=1, body_max=10 * BODY_MAX * BODY_MAX)
    async with server, httpx.AsyncClient(base_url=url, transport=transport, timeout=5) as client:
        async with asyncio.timeout(20):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/")
    assert sent < 20_000_000  # and not what fits into the memory


async def test_who_waits_no_longer_closes_the_connection_and_leaves_the_place() -> None:
    vendor = Vendor([None, OK])
    async with client_of(vendor, connections=1) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get("/")
        await vendor.gone.wait()
        assert (await client.get("/")).content == b"ok"


async def test_more_requests_than_connections_wait_for_one() -> None:
    vendor = Vendor([OK])
    async with client_of(vendor, connections=2) as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(20)))
        assert [answer.content for answer in answers] == [b"ok"] * 20
    assert vendor.connections == 2


@pytest.mark.parametrize("value", [b"a\r\nx-two: 2", b"a\nb", b"a\0"])
async def test_no_header_makes_two_of_a_request(value: bytes) -> None:
    vendor = Vendor([OK])
    async with client_of(vendor) as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.get("/", headers=[(b"x-one", value)])
    assert not vendor.requests


async def test_a_server_is_asked_over_tls_where_an_authority_vouches_for_it(tmp_path: Path) -> None:
    served, authority = certificate(tmp_path, "vendor.example")
    trusted = ssl.create_default_context(cafile=str(authority))
    vendor = Vendor([OK])
    async with client_of(vendor, served=served, trusted=trusted) as client:
        for _ in range(2):
            assert (await client.get("/")).content == b"ok"
    assert vendor.connections == 1
    async with client_of(vendor, served=served) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
    async with client_of(vendor, served=served, trusted=trusted) as client:
        with pytest.raises(httpx.ConnectError):  # known, but not by this name
            await client.get(str(client.base_url).replace("127.0.0.1", "localhost"))
    assert len(vendor.requests) == 2


async def test_what_is_no_http_is_not_asked() -> None:
    async with client_of(Vendor([OK])) as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/")
        with pytest.raises(httpx.LocalProtocolError):
            await client.head("/")
