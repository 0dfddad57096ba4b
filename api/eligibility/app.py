"""The application of the eligibility service: one call, answered by the lean route or, the same, by the framework."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, FastAPI, Header, Path, Request, Response, Security
from fastapi.security import HTTPBearer
from pydantic import Field

from api.eligibility.admission import Admission
from api.eligibility.telemetry import AdmissionMetrics
from api.eligibility.voting_tokens import VotingToken
from api.http.access import path_of
from api.http.application import problem_responses
from api.http.lean import LeanRequest, LeanRoute
from api.http.limits import FrameworkRequest
from api.http.models import ApiModel, QueryText, Timestamp
from api.http.patience import still_waiting
from domain.device_events import EVENT_ID_MAX, NONCE_MAX, NONCE_MIN, SEALED_EVENT_MAX
from domain.errors import DomainError, ErrorCode
from domain.priorities import Work
from integrations.telemetry.tracing import Tracing, current_request

PATH = "/v1/surveys/{id}/voting-token"
_CREATED = 201
_ERRORS = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.TOKEN_INVALID,
    ErrorCode.TOKEN_EXPIRED,
    ErrorCode.PROOF_INVALID,
    ErrorCode.SESSION_REVOKED,
    ErrorCode.DEVICE_MISMATCH,
    ErrorCode.STEP_UP_REQUIRED,
    ErrorCode.RISK_DENIED,
    ErrorCode.DEVICE_REFUSED,
    ErrorCode.VOTER_NOT_FOUND,
    ErrorCode.VOTER_NOT_ACTIVE,
    ErrorCode.VOTER_NOT_VERIFIED,
    ErrorCode.REGION_NOT_ELIGIBLE,
    ErrorCode.AGE_NOT_ELIGIBLE,
    ErrorCode.NOT_ON_ROLL,
    ErrorCode.WRONG_CELL,
    ErrorCode.SURVEY_NOT_FOUND,
    ErrorCode.SURVEY_CLOSED,
    ErrorCode.KEY_DESTROYED,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.RATE_LIMITED,
    ErrorCode.OVERLOADED,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
)
_VOTER_TOKEN = HTTPBearer(scheme_name="voterToken", bearerFormat="JWT", auto_error=False)


class VotingTokenBody(ApiModel):
    """The permission to vote once in this survey."""

    voting_token: str = Field(description="JWT; `DPoP`-bound where the access token is")
    expires_at: Timestamp


class AdmissionBody(ApiModel):
    """What shows the device that a session's login has read, anew. Nothing has to: then the device's last event counts.

    Policy says for how long it does; after that a request without an event is asked for a step-up, and so is one whose
    event cannot be read or proves nothing.
    """

    device_event_id: str = Field(default_factory=str, min_length=1, max_length=EVENT_ID_MAX)
    nonce: str = Field(
        default_factory=str,
        min_length=NONCE_MIN,
        max_length=NONCE_MAX,
        repr=False,
        description="the one that the device event was made for; it comes with one",
    )
    device_result: str = Field(
        default="",
        max_length=SEALED_EVENT_MAX,
        repr=False,
        description="the same event as the vendor sealed it for us, where it does: then the vendor is not asked",
    )


class _Answer(msgspec.Struct, rename="camel"):
    voting_token: str
    expires_at: str


_encode = msgspec.json.Encoder().encode


def encode_token(token: VotingToken) -> bytes:
    """Return the body of 201."""
    return _encode(_Answer(token.token, token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")))


class VotingTokenRoute:
    """Answers without the framework, on the event loop, when the desk has decided."""

    def __init__(self, admission: Admission, metrics: AdmissionMetrics, tracing: Tracing) -> None:
        self._admission = admission
        self._metrics = metrics
        self._tracing = tracing

    @property
    def lean(self) -> LeanRoute:
        """The route for the server's table."""
        return LeanRoute("POST", PATH, self.apply, work=Work.ADMISSION)

    def apply(self, request: LeanRequest) -> None:
        """`POST /v1/surveys/{id}/voting-token`."""
        trace = self._tracing.begin_request(request.get(b"traceparent"), request.received_at)

        def answer(result: VotingToken | DomainError) -> None:
            if isinstance(result, DomainError):
                self._metrics.refused(result.code)
                request.respond_error(result)
            else:
                self._metrics.issued()
                request.respond(_CREATED, encode_token(result))
            about = {"http.route": PATH, "election_id": request.parameter, "request_id": request.request_id}
            trace.finish(request.status, attributes=about)

        try:
            waiting = still_waiting(request)
            self._admission.apply(request, request.parameter, trace, answer, is_wanted=waiting)
        except DomainError as error:
            answer(error)


class _Asked(FrameworkRequest):
    """A request of the framework in the form that admission takes."""

    def __init__(self, request: Request, body: bytes) -> None:
        super().__init__(request)
        self.method = request.method
        self.path = path_of(request).encode()
        self.headers: Sequence[tuple[bytes, bytes]] = request.scope["headers"]
        self.body = body


class _NoTrace:
    """Stands in where nothing traces the request."""

    trace_id = ""

    def step(self, name: str, started_at: float, ended_at: float) -> None:
        """Forget it."""

    def flag(self) -> None:
        """Forget it."""


def add_routes(app: FastAPI, admission: Admission, metrics: AdmissionMetrics) -> None:
    """Add the call to the application, where it is documented and served without the lean route too."""
    router = APIRouter(tags=["admission"])

    @router.post(
        PATH,
        status_code=_CREATED,
        response_model=VotingTokenBody,
        responses=problem_responses(*_ERRORS),
        summary="Ask to vote in a survey",
        dependencies=[Security(_VOTER_TOKEN)],
    )
    async def voting_token(
        id: Annotated[QueryText, Path(max_length=64)],  # noqa: A002 - the name in the address
        request: Request,
        body: AdmissionBody | None = None,
        x_device_id: Annotated[str | None, Header(max_length=256, description="where the token names a device")] = None,
        dpop: Annotated[str | None, Header(description="RFC 9449, with `bdh`: where the token is bound")] = None,
    ) -> Response:
        decided: asyncio.Future[VotingToken | DomainError] = asyncio.get_running_loop().create_future()
        asked = _Asked(request, await request.body())

        def answer(result: VotingToken | DomainError) -> None:
            if not decided.done():
                decided.set_result(result)

        try:
            admission.apply(asked, id, current_request() or _NoTrace(), answer)
            result = await decided
        except DomainError as error:
            result = error
        if isinstance(result, DomainError):
            metrics.refused(result.code)
            raise result
        metrics.issued()
        return Response(encode_token(result), _CREATED, media_type="application/json")

    app.include_router(router)
