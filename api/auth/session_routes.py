"""Sessions over HTTP: refresh, list, revoke, log out."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import Field

from api.auth.proving import KeyProofs, ProofHeader
from api.auth.sessions import SessionDesk, Tokens
from api.http.access import VOTER_RESPONSES
from api.http.application import problem_responses
from api.http.limits import FrameworkRequest, Limits
from api.http.models import ApiModel, QueryText, Timestamp
from domain.errors import DomainError, ErrorCode
from domain.ids import cell_of_voter
from domain.limits import SESSION_ADDRESS, SESSION_NETWORK, SESSION_VOTER, Policy
from domain.sessions import EndReason, Session, cell_of_refresh_token
from domain.tokens import LIFETIME_S, VoterClaims

_CELL_ERRORS = (ErrorCode.WRONG_CELL, ErrorCode.CELL_UNAVAILABLE, ErrorCode.DIRECTORY_UNAVAILABLE)
_VOTER_ERRORS = {**VOTER_RESPONSES, **problem_responses(*_CELL_ERRORS)}
_REFRESH_ERRORS = problem_responses(
    ErrorCode.PROOF_INVALID, ErrorCode.REFRESH_TOKEN_INVALID, ErrorCode.RATE_LIMITED, *_CELL_ERRORS
)


class RefreshBody(ApiModel):
    """A refresh token; the proof in the header must be of the key that the session is bound to."""

    refresh_token: str = Field(max_length=128, repr=False)


class TokensBody(ApiModel):
    """What the client goes on with; the refresh token that was sent is used up."""

    access_token: str = Field(description="JWT, bound to the client's key: send it as `DPoP`, with a proof")
    token_type: str = "DPoP"  # noqa: S105 - RFC 9449, section 5
    expires_in: int = Field(default=LIFETIME_S, description="seconds")
    refresh_token: str
    session_id: str


class SessionBody(ApiModel):
    """A session as its voter sees it."""

    session_id: str
    is_this: bool = Field(description="whether this request is of this session")
    method: str = Field(description="what it was opened with: `password`, `mail_code`, `passkey` or `oidc`")
    network: str = Field(description="where it was opened: a /24 or /48; empty where that is not known")
    created_at: Timestamp
    last_used_at: Timestamp
    expires_at: Timestamp


class SessionsBody(ApiModel):
    """Every open session, at most 20, the one used last first."""

    sessions: tuple[SessionBody, ...] = Field(strict=False)


class LogoutBody(ApiModel):
    """How far to log out."""

    everywhere: bool = False


def tokens_body(tokens: Tokens) -> TokensBody:
    """Return tokens as they are sent."""
    return TokensBody(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        session_id=tokens.session_id,
        expires_in=tokens.expires_in_s,
    )


class SessionLimits:
    """Counts requests for their voter in the voter's cell, and others for their place."""

    def __init__(self, limits: Limits, cells: Sequence[str], own: Policy = SESSION_VOTER) -> None:
        self._strangers = limits.route(address=SESSION_ADDRESS, network=SESSION_NETWORK)
        self._cells = {
            cell: limits.route(cell, own=own, address=SESSION_ADDRESS, network=SESSION_NETWORK) for cell in cells
        }

    def take(self, request: Request, cell: str | None, subject: str) -> None:
        """Count a request of a subject that has proved to be it. Raises DomainError `rate_limited`, `wrong_cell`."""
        counted = self._cells.get(cell or "")
        if counted is None:
            raise DomainError(ErrorCode.WRONG_CELL, "the cell")
        counted.take(FrameworkRequest(request), subject)

    def counted(self, voter: Callable[..., Awaitable[VoterClaims]]) -> Callable[..., Awaitable[VoterClaims]]:
        """Return a dependency: the voter that `voter` lets in, its request counted."""

        async def counted_voter(request: Request, claims: Annotated[VoterClaims, Depends(voter)]) -> VoterClaims:
            self.take(request, cell_of_voter(claims.sub), claims.sub)
            return claims

        return counted_voter

    def take_stranger(self, request: Request) -> None:
        """Count a request of anybody. Raises DomainError `rate_limited`."""
        self._strangers.take(FrameworkRequest(request))


def session_routes(
    desk: SessionDesk,
    voter: Callable[..., Awaitable[VoterClaims]],
    key: KeyProofs,
    limits: Limits,
    cells: Sequence[str],
) -> APIRouter:
    """Return the routes; `voter` lets in voters by access token, `key` finds a client's key."""
    router = APIRouter(prefix="/v1/auth", tags=["sessions"])
    counted = SessionLimits(limits, cells)

    by_voter = Annotated[VoterClaims, Depends(counted.counted(voter))]

    @router.post("/token", summary="Use a refresh token, once", responses=_REFRESH_ERRORS)
    async def refresh(request: Request, body: RefreshBody, _dpop: ProofHeader = None) -> TokensBody:
        jkt = await key.of(request)
        if cell_of_refresh_token(body.refresh_token) is None:
            raise DomainError(ErrorCode.REFRESH_TOKEN_INVALID)
        counted.take_stranger(request)
        return tokens_body(await desk.refresh(body.refresh_token, jkt))

    @router.get("/sessions", summary="The voter's open sessions", responses=_VOTER_ERRORS)
    async def sessions(claims: by_voter) -> SessionsBody:
        found = await desk.of_voter(claims.sub)
        return SessionsBody(sessions=tuple(_session_body(session, claims.sid) for session in found))

    @router.delete(
        "/sessions/{id}",
        status_code=204,
        summary="End one of the voter's sessions",
        responses={**_VOTER_ERRORS, **problem_responses(ErrorCode.SESSION_NOT_FOUND)},
    )
    async def revoke(id: Annotated[QueryText, Path(max_length=64)], claims: by_voter) -> None:  # noqa: A002 - in the address
        if not await desk.end(claims.sub, id, EndReason.REVOKED):
            raise DomainError(ErrorCode.SESSION_NOT_FOUND)

    @router.post("/logout", status_code=204, summary="End this session, or all", responses=_VOTER_ERRORS)
    async def logout(claims: by_voter, body: LogoutBody | None = None) -> None:
        if body is not None and body.everywhere:
            await desk.end_all(claims.sub, EndReason.LOGGED_OUT_EVERYWHERE)
        else:
            await desk.end(claims.sub, claims.sid, EndReason.LOGGED_OUT)

    return router


def _session_body(session: Session, this: str) -> SessionBody:
    return SessionBody(
        session_id=session.session_id,
        is_this=session.session_id == this,
        method=session.method.value,
        network=session.network,
        created_at=session.created_at,
        last_used_at=session.last_used_at,
        expires_at=session.expires_at,
    )
