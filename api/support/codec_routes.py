"""Temporal's remote codec protocol: `/v1/support/codec`."""

from base64 import b64decode, b64encode
from binascii import Error as NotBase64Error
from collections.abc import Awaitable, Callable, Collection
from typing import Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware import Middleware
from temporalio.api.common.v1 import Payload

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.limits import FrameworkRequest, Limits
from api.http.models import QueryText
from api.support.codec import CodecDesk
from api.support.codec_origins import CodecOrigins
from domain.errors import DomainError, ErrorCode
from domain.limits import CODEC

PREFIX: Final = "/v1/support/codec"
PAYLOADS_MAX: Final = 64  # in one request; its entry names each
_ENTRIES_MAX: Final = 16  # of the metadata of one payload

Base64 = Annotated[str, Field(max_length=65_536)]


class PayloadBody(BaseModel):
    """A payload as protobuf's JSON has it: bytes as base64. What Temporal adds to it later is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    metadata: dict[str, Base64] = Field(default_factory=dict, max_length=_ENTRIES_MAX)
    data: Base64 = ""

    def payload(self) -> Payload:
        """Return it as Temporal has it. Raises DomainError `malformed_request`."""
        return Payload(metadata={name: _bytes(value) for name, value in self.metadata.items()}, data=_bytes(self.data))

    @classmethod
    def of(cls, payload: Payload) -> "PayloadBody":
        """Return a payload as it is sent."""
        return cls(
            metadata={name: b64encode(value).decode() for name, value in payload.metadata.items()},
            data=b64encode(payload.data).decode(),
        )


class PayloadsBody(BaseModel):
    """Some payloads, answered in the same order."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    payloads: tuple[PayloadBody, ...] = Field(default=(), strict=False, max_length=PAYLOADS_MAX)


def add_codec(
    app: FastAPI,
    desk: CodecDesk,
    staff: Callable[..., Awaitable[Principal]],
    limits: Limits,
    origins: Collection[str],
) -> None:
    """Add the codec server to an application; `staff` lets in who may see cases, `origins` are pages that may ask."""
    app.include_router(_routes(desk, staff, limits))
    # The innermost, so that refusals are counted and have their request id like any other
    app.user_middleware.append(Middleware(CodecOrigins, prefix=f"{PREFIX}/", origins=origins))


def _routes(desk: CodecDesk, staff: Callable[..., Awaitable[Principal]], limits: Limits) -> APIRouter:
    router = APIRouter(prefix=PREFIX, tags=["Codec server"], responses={**STAFF_RESPONSES})
    Staff = Annotated[Principal, Depends(staff)]  # noqa: N806 - a type
    openings = limits.subjects(CODEC)

    @router.post(
        "/decode",
        summary="Open payloads of a history",
        responses=problem_responses(
            ErrorCode.NOT_FOUND,
            ErrorCode.KEY_DESTROYED,
            ErrorCode.KEY_UNAVAILABLE,
            ErrorCode.CELL_UNAVAILABLE,
            ErrorCode.DIRECTORY_UNAVAILABLE,
            ErrorCode.AUDIT_LOG_UNAVAILABLE,
        ),
    )
    async def decode(
        body: PayloadsBody,
        principal: Staff,
        request: Request,
        namespace: Annotated[QueryText, Header(alias="X-Namespace", min_length=1, max_length=64)],
    ) -> PayloadsBody:
        """Open what the lasting histories of a cell keep, each field as far as the role of whoever asks goes.

        Votes are never opened. Each request that opens something is an audit entry.
        """
        openings.take(FrameworkRequest(request), principal.actor)
        shown = await desk.decode(namespace, [each.payload() for each in body.payloads], principal)
        return PayloadsBody(payloads=tuple(PayloadBody.of(each) for each in shown))

    @router.post("/encode", summary="Refused: nobody seals payloads here")
    async def encode(_principal: Staff) -> None:
        """Refuse: whoever could seal a payload could have a process act on it."""
        raise DomainError(ErrorCode.FORBIDDEN, "nothing is sealed here")

    return router


def _bytes(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (NotBase64Error, ValueError) as error:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "not base64") from error
