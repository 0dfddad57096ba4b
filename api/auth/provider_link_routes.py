"""Logins at identity providers over HTTP: linked to an account by who has logged in within a quarter of an hour."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from api.auth.credential_routes import EmptyBody, change_errors
from api.auth.oidc_routes import AuthorizeBody
from api.auth.provider_links import ProviderLinkDesk
from api.auth.session_routes import SessionLimits
from api.http.access import VOTER_RESPONSES
from api.http.application import problem_responses
from api.http.limits import Limits
from api.http.models import ApiModel, QueryText, Timestamp
from domain.errors import ErrorCode
from domain.limits import ACCOUNT_VOTER
from domain.tokens import VoterClaims

_CELL_ERRORS = (ErrorCode.WRONG_CELL, ErrorCode.CELL_UNAVAILABLE, ErrorCode.DIRECTORY_UNAVAILABLE)
_BEGIN_ERRORS = change_errors(ErrorCode.NOT_FOUND, ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE)
_FINISH_ERRORS = change_errors(
    ErrorCode.LINK_NOT_ACCEPTED,
    ErrorCode.LOGIN_TAKEN,
    ErrorCode.PROVIDER_LINKED,
    ErrorCode.VOTER_NOT_ACTIVE,
    ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
)
_UNLINK_ERRORS = change_errors(ErrorCode.FACTOR_NOT_FOUND, ErrorCode.LAST_CREDENTIAL)

Provider = Annotated[QueryText, Path(max_length=32, description="by its name here")]


class ReturnedBody(ApiModel):
    """What the provider sent the person back with."""

    state: str = Field(min_length=1, max_length=128, repr=False)
    code: str = Field(min_length=1, max_length=4096, repr=False)
    issuer: str = Field(default="", max_length=512, description="`iss` (RFC 9207), where it came back")


class ProviderLinkBody(ApiModel):
    """A login at a provider; who it is there is kept as a keyed hash alone."""

    provider: str
    linked_at: Timestamp


class ProviderLinksBody(ApiModel):
    """The providers that the voter can log in at, one login at each."""

    providers: tuple[ProviderLinkBody, ...] = Field(strict=False)


def provider_link_routes(
    desk: ProviderLinkDesk, voter: Callable[..., Awaitable[VoterClaims]], limits: Limits, cells: Sequence[str]
) -> APIRouter:
    """Return the routes; `voter` lets in voters by access token."""
    router = APIRouter(prefix="/v1/account/credentials/providers", tags=["account"])
    counted = SessionLimits(limits, cells, own=ACCOUNT_VOTER)

    by_voter = Annotated[VoterClaims, Depends(counted.counted(voter))]

    @router.get(
        "",
        summary="Where else the voter can log in",
        responses={**VOTER_RESPONSES, **problem_responses(*_CELL_ERRORS)},
    )
    async def links(claims: by_voter) -> ProviderLinksBody:
        found = await desk.of_voter(claims)
        return ProviderLinksBody(
            providers=tuple(ProviderLinkBody(provider=link.provider, linked_at=link.linked_at) for link in found)
        )

    @router.post("/{provider}", summary="Begin to link a login at a provider", responses=_BEGIN_ERRORS)
    async def begin(provider: Provider, claims: by_voter, _body: EmptyBody | None = None) -> AuthorizeBody:
        """Return where to send the person, who logs in there and comes back with what this client finishes it with."""
        return AuthorizeBody(url=await desk.begin(claims, provider))

    @router.post("/{provider}/finish", status_code=204, summary="Link a login at a provider", responses=_FINISH_ERRORS)
    async def finish(provider: Provider, body: ReturnedBody, claims: by_voter) -> None:
        """Link it, if no account has it; every other session ends."""
        await desk.finish(claims, provider, body.state, body.code, body.issuer)

    @router.delete("/{provider}", status_code=204, summary="Unlink a login at a provider", responses=_UNLINK_ERRORS)
    async def unlink(provider: Provider, claims: by_voter) -> None:
        """Unlink it, unless it is the last thing to log in with; every other session ends."""
        await desk.unlink(claims, provider)

    return router
