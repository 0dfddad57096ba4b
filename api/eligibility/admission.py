"""Asking for a voting token: the access token and everything that binds it, then the desk of the voter's cell."""

import hmac
import time
from collections.abc import Callable, Container, Mapping, Sequence
from time import perf_counter
from typing import Annotated, Protocol

import msgspec

from api.eligibility.brought_events import EventSubmissions, ShownEvent
from api.eligibility.desk import Answer, Application, Desk, Trace
from api.eligibility.telemetry import AdmissionMetrics
from api.http.authorization import Proofs, SignedRequest, credentials
from api.http.limits import LimitedRequest, Limits, RouteLimits
from domain.device_events import EVENT_ID_MAX, NONCE_MAX, NONCE_MIN, SEALED_EVENT_MAX
from domain.errors import DomainError, ErrorCode
from domain.ids import SURVEY_ID, cell_of_voter
from domain.limits import ADMISSION_ADDRESS, ADMISSION_DEVICE, ADMISSION_NETWORK, ADMISSION_VOTER
from domain.risk import network_of
from domain.tokens import VoterClaims
from integrations.keys.digests import digest
from integrations.keys.tokens import TokenVerifier
from integrations.telemetry.span_names import SpanName

DEVICE_HEADER = b"x-device-id"
_NETWORKS_MAX = 10_000  # addresses whose networks are remembered


class AdmissionRequest(SignedRequest, LimitedRequest, Protocol):
    """A request as the transport has it."""


class _Body(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The body where there is one: a device event, with the nonce that it was made for."""

    device_event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=EVENT_ID_MAX)] = ""
    nonce: Annotated[str, msgspec.Meta(min_length=NONCE_MIN, max_length=NONCE_MAX)] = ""
    device_result: Annotated[str, msgspec.Meta(max_length=SEALED_EVENT_MAX)] = ""


_BODY = msgspec.json.Decoder(_Body)


class Admission:
    """Checks who asks, without I/O, and hands over to the desk of the cell that the voter's id names."""

    def __init__(
        self,
        *,
        voters: TokenVerifier[VoterClaims],
        proofs: Proofs,
        cells: Sequence[str],
        desks: Mapping[str, Desk],
        events: Mapping[str, EventSubmissions],
        limits: Limits,
        metrics: AdmissionMetrics,
        revoked: Container[str],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Take the cells that this process serves, and their desks; one that is missing is not open yet.

        `events` are where applications go that bring a device event, for every cell with a desk.
        `revoked` are the sessions that have ended while their access tokens are still good.
        """
        self._voters = voters
        self._proofs = proofs
        self._desks = desks
        self._events = events
        self._failures = limits.failures
        self._limits = {cell: _route_limits(limits, cell) for cell in cells}
        self._metrics = metrics
        self._revoked = revoked
        self._now = now
        self._networks: dict[str, str] = {}

    def apply(
        self,
        request: AdmissionRequest,
        survey_id: str,
        trace: Trace,
        answer: Answer,
        *,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take an application; `answer` is called once, later. Nothing is decided once it `is_wanted` no more.

        Raises:
            DomainError: `unauthenticated`, `token_invalid`, `token_expired`, `proof_invalid`, `session_revoked`,
                `device_mismatch` (401),
                `step_up_required` (403), `malformed_request`, `survey_not_found`, `wrong_cell`, `rate_limited`,
                `directory_unavailable` or `overloaded`.
        """
        began = perf_counter()
        try:
            claims, proof = self._authenticate(request)
        except DomainError:
            self._failures.count(request)
            raise
        ended = perf_counter()
        self._metrics.validated(ended - began)
        trace.step(SpanName.VALIDATE_TOKEN, began, ended)
        self._limits[claims.cell].take(request, claims.sub, claims.jkt or claims.device)
        network = self._network(request.client)
        if claims.network and claims.network != network:
            raise DomainError(ErrorCode.STEP_UP_REQUIRED, "the token was issued on another network")
        shown = _shown(request) if request.body else None
        if SURVEY_ID.fullmatch(survey_id) is None:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
        desk = self._desks.get(claims.cell)
        if desk is None:
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
        application = Application(survey_id, claims, network, trace, is_wanted, proof)
        if shown is None:
            desk.submit(application, answer)
        else:
            self._events[claims.cell].submit(application, shown, answer)

    def _network(self, client: str) -> str:
        network = self._networks.get(client)
        if network is None:
            if len(self._networks) >= _NETWORKS_MAX:
                self._networks.clear()
            network = self._networks[client] = network_of(client)
        return network

    def _authenticate(self, request: AdmissionRequest) -> tuple[VoterClaims, bytes]:
        now = self._now()
        sent = credentials(request.headers)
        claims = self._voters.verify(sent.token, now)
        proof = sent.check_binding(
            self._proofs,
            claims.jkt,
            method=request.method,
            path=request.path.decode("ascii", "replace"),
            body=request.body,
            now=now,
        )
        if cell_of_voter(claims.sub) != claims.cell:
            raise DomainError(ErrorCode.TOKEN_INVALID, "the token's subject is no voter of its cell")
        if claims.cell not in self._limits:
            raise DomainError(ErrorCode.WRONG_CELL)
        if claims.sid in self._revoked:
            raise DomainError(ErrorCode.SESSION_REVOKED)
        # A key that the device holds says more than a name that anybody can send; there the login has read the device
        if claims.device and not claims.jkt and not hmac.compare_digest(_device(request.headers), claims.device):
            raise DomainError(ErrorCode.DEVICE_MISMATCH)
        return claims, proof


def _route_limits(limits: Limits, cell: str) -> RouteLimits:
    return limits.route(
        cell, own=ADMISSION_VOTER, device=ADMISSION_DEVICE, address=ADMISSION_ADDRESS, network=ADMISSION_NETWORK
    )


def _device(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the digest of the device id that came with the request, or an empty text."""
    for name, value in headers:
        if name == DEVICE_HEADER:
            return digest(value)
    return ""


def _shown(request: AdmissionRequest) -> ShownEvent | None:
    """Return the device event of a body, which may have none."""
    try:
        body = _BODY.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "this call takes a device event, or nothing") from None
    if not body.device_event_id and not body.nonce and not body.device_result:
        return None
    if not body.device_event_id or not body.nonce:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "an event has an id and a nonce")
    return ShownEvent(body.device_event_id, body.nonce, body.device_result, request.client)
