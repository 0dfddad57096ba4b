"""Back-channel logout: an identity provider says that somebody's session there is over."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Header, Request

from api.auth.app import FORM
from api.auth.cells import AuthCells
from api.auth.sessions import SessionDesk
from api.http.application import problem_responses
from api.http.limits import Limits, limited
from domain.accounts import LookupHashes, LookupKind
from domain.errors import DomainError, ErrorCode
from domain.federation import ProviderLogout
from domain.limits import LOGOUT_ADDRESS, LOGOUT_NETWORK

_ERRORS: Final = problem_responses(
    ErrorCode.LOGOUT_TOKEN_INVALID,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.RATE_LIMITED,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
    ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE,
)
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["logout_token"],
                    "properties": {"logout_token": {"type": "string"}},
                }
            }
        },
    }
}


class LogoutTokens(Protocol):
    """Verifies logout tokens of every provider."""

    async def logout(self, token: str) -> ProviderLogout:
        """Return what a token tells. Raises DomainError `logout_token_invalid`, `identity_provider_unavailable`."""
        ...


class BackChannel:
    """Obeys logout tokens, each once, in every cell: a provider does not know where an account is at home."""

    def __init__(
        self, tokens: LogoutTokens, desk: SessionDesk, cells: AuthCells, names: Sequence[str], lookups: LookupHashes
    ) -> None:
        self._tokens = tokens
        self._desk = desk
        self._cells = cells
        self._names = names
        self._lookups = lookups

    async def log_out(self, token: str) -> None:
        """End the sessions that a logout token names. A cell that is away is asked when the token comes again.

        Raises:
            DomainError: `logout_token_invalid`, also for a token that came before; `cell_unavailable`,
                `directory_unavailable`, `key_unavailable`, `identity_provider_unavailable`.
        """
        told = await self._tokens.logout(token)
        obeyed, failure = False, None
        for name in self._names:
            try:
                obeyed |= await self._log_out_in(name, told)
            except DomainError as error:
                failure = error
        if failure is not None:
            raise failure
        if not obeyed:
            raise DomainError(ErrorCode.LOGOUT_TOKEN_INVALID)

    async def _log_out_in(self, name: str, told: ProviderLogout) -> bool:
        voter_id = ""
        if told.subject:
            hashes = await self._lookups.every(LookupKind.LOGIN, told.login)
            account = await self._cells.of(name).accounts.find(LookupKind.LOGIN, hashes)
            voter_id = account.voter_id if account is not None else ""
        return await self._desk.end_at_provider(name, told.provider, told.jti, sid=told.sid, voter_id=voter_id)


def logout_routes(back_channel: BackChannel, limits: Limits) -> APIRouter:
    """Return the route that identity providers call."""
    router = APIRouter(prefix="/v1/auth", tags=["identity providers"])
    counted = Depends(limited(limits.route(address=LOGOUT_ADDRESS, network=LOGOUT_NETWORK)))

    @router.post(
        "/backchannel-logout",
        status_code=200,
        summary="A session at an identity provider is over",
        responses=_ERRORS,
        openapi_extra=_BODY,
        dependencies=[counted],
    )
    async def backchannel_logout(
        request: Request, content_type: Annotated[str, Header(include_in_schema=False)] = ""
    ) -> None:
        if content_type.partition(";")[0].strip().lower() != FORM:
            raise DomainError(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
        await back_channel.log_out(_token_in(await request.body()))

    return router


def _token_in(body: bytes) -> str:
    """Return the one logout token of a form. Raises DomainError `logout_token_invalid`."""
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        fields = []
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) != 1:
        raise DomainError(ErrorCode.LOGOUT_TOKEN_INVALID)
    return tokens[0]
