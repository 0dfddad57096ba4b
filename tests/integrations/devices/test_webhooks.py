import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from domain.errors import DomainError
from domain.webhooks import WebhookEvent
from integrations.devices.webhooks import HEADER, FingerprintWebhooks, is_signed, signature
from integrations.vendor_settings import FingerprintSettings
from tests.integrations.vendor_sandboxes import Vendor, open_vendor

SECRET = b"whsec-test"
BODY = b'{"event_id":"1700000000000.TESTab"}'
VECTOR = "v1=f6b1d126d8f17c27ffc53c7fe0ae08705747d0a1e0b9a2d82cde9832750c27df"
SETTINGS = FingerprintSettings(
    base_url="http://127.0.0.1:1/v4", api_key="sk", webhook_secrets=(SECRET.decode(), "the one before")
)
WEBHOOKS = FingerprintWebhooks.of(SETTINGS)
DEADLINE_S = 10.0


class Receiver:
    """A server that takes webhooks, and refuses the first `refusals` of them."""

    def __init__(self, refusals: int = 0) -> None:
        self.taken: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
        self._refusals = refusals

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
        body = await reader.readexactly(int(headers["content-length"]))
        self._refusals -= 1
        status = b"503 No" if self._refusals >= 0 else b"204 Yes"
        writer.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\n\r\n")
        writer.close()
        self.taken.put_nowait((headers, body))

    async def next(self) -> tuple[dict[str, str], bytes]:
        return await asyncio.wait_for(self.taken.get(), DEADLINE_S)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor() -> AsyncIterator[Vendor]:
    async with open_vendor("fingerprint", fingerprint=SETTINGS) as opened:
        yield opened


def test_the_published_vectors_are_made_and_accepted():
    assert signature(b"data", b"secret") == "v1=1b2c16b75bd2a870c114153ccda5bcfca63314bc722fa160d690de133ccbb9db"
    assert signature(BODY, SECRET) == VECTOR
    for header in (VECTOR, f"v1=00,{VECTOR}", f"{VECTOR}, v2=ab", f"v2=x, {VECTOR}"):
        assert is_signed(BODY, header, [b"other", SECRET])


@pytest.mark.parametrize(
    ("body", "header", "secrets"),
    [
        (BODY, VECTOR.replace("v1", "v2"), [SECRET]),
        (BODY, VECTOR[3:], [SECRET]),
        (BODY, "", [SECRET]),
        (BODY, VECTOR, [b""]),
        (BODY, signature(BODY, b""), [b""]),
        (BODY, VECTOR, []),
        (b"", signature(b"", SECRET), [SECRET]),
        (BODY + b" ", VECTOR, [SECRET]),
        (BODY, VECTOR[:-1], [SECRET]),
        (BODY, VECTOR.upper(), [SECRET]),
        (BODY, "v1=\u00e9", [SECRET]),
        (BODY, ",".join([VECTOR] * 200), [SECRET]),
    ],
    ids=map(str, range(12)),
)
def test_what_is_not_signed_as_agreed_is_refused(body: bytes, header: str, secrets: list[bytes]):
    assert not is_signed(body, header, secrets)


def test_an_event_is_a_hint_with_its_id_for_the_delivery():
    at_ms = int(time.time() * 1000)
    body = json.dumps({"event_id": f"{at_ms}.TESTab", "timestamp": at_ms, "linked_id": "n"}).encode()
    event = WEBHOOKS.verify({HEADER: signature(body, b"the one before")}, body)
    assert isinstance(event, WebhookEvent)
    assert (event.vendor, event.delivery_id, event.case_id) == ("fingerprint", f"{at_ms}.TESTab", "")
    assert int(event.sent_at.timestamp() * 1000) == at_ms


@pytest.mark.parametrize("offset_s", [-1000, 120])
def test_one_that_is_not_of_now_is_refused(offset_s: int):
    at_ms = int((time.time() + offset_s) * 1000)
    body = json.dumps({"event_id": f"{at_ms}.TESTab", "timestamp": at_ms}).encode()
    with pytest.raises(DomainError, match="not of now"):
        WEBHOOKS.verify({HEADER: signature(body, SECRET)}, body)


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000, BODY, b'{"event_id": "a/b", "timestamp": 1}'])
def test_what_is_signed_and_no_event_is_refused(body: bytes):
    with pytest.raises(DomainError, match="no event inside"):
        WEBHOOKS.verify({HEADER: signature(body, SECRET)}, body)


async def test_what_the_sandbox_sends_is_taken_or_refused_as_it_is_signed(vendor: Vendor):
    receiver = Receiver()
    event_id = (await vendor.control("POST", "events"))["eventId"]
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for variant in ("good", "two_signatures"):
            await vendor.control("POST", f"events/{event_id}/deliveries", url=url, variant=variant)
            assert WEBHOOKS.verify(*await receiver.next()).delivery_id == event_id
        for variant in ("wrong_signature", "no_header", "other_version"):
            await vendor.control("POST", f"events/{event_id}/deliveries", url=url, variant=variant)
            headers, body = await receiver.next()
            with pytest.raises(DomainError, match="webhook_invalid: not signed as agreed"):
                WEBHOOKS.verify(headers, body)
        await vendor.control("POST", f"events/{event_id}/deliveries", url=url, times=2)
        assert await receiver.next() == await receiver.next()


async def test_the_sandbox_sends_once_more_after_a_failure(vendor: Vendor):
    receiver = Receiver(refusals=1)
    event_id = (await vendor.control("POST", "events"))["eventId"]
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await vendor.control("POST", f"events/{event_id}/deliveries", url=url, retryAfterMs=1)
        assert await receiver.next() == await receiver.next()
