"""What goes wrong at a provider is told in our words: its own may quote the person."""

from typing import Any

import httpx
import msgspec
import pytest

from domain.errors import DomainError, ErrorCode
from integrations.identity.calls import ProviderCalls
from integrations.vendor_http import VendorClient

TEXT = "Ada Lovelace, C01X00T47"


class Answer(msgspec.Struct):
    id: str


@pytest.mark.parametrize(
    ("status", "body", "code", "detail"),
    [
        (400, {"code": 400, "errorCode": 7, "description": TEXT}, ErrorCode.PROOFING_REFUSED, "error code 7"),
        (400, {"description": TEXT}, ErrorCode.PROOFING_UNAVAILABLE, "status 400"),
        (200, {"id": [TEXT]}, ErrorCode.PROOFING_UNAVAILABLE, "status 200"),
        (500, {"code": 500, "description": TEXT}, ErrorCode.PROOFING_UNAVAILABLE, "status 500"),
    ],
    ids=["refused", "not an error of theirs", "garbled", "a fault"],
)
async def test_the_providers_text_goes_nowhere(status: int, body: dict[str, Any], code: ErrorCode, detail: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    async with VendorClient("http://vendor", {}, transport) as client:
        with pytest.raises(DomainError) as raised:
            await ProviderCalls(client, 1.0, httpx.Auth()).ask("GET", "/case", Answer)
    assert raised.value.code is code
    assert raised.value.detail.endswith(detail)
    assert "Ada" not in f"{raised.value!r} {raised.value.__cause__!r}"
