"""Beginning a login at an identity provider; what comes back is a login like any other."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from api.auth.cells import AuthCells
from api.http.application import problem_responses
from api.http.limits import Limits, limited
from api.http.models import ApiModel, QueryText
from domain.errors import ErrorCode
from domain.limits import LOGIN_ADDRESS, LOGIN_NETWORK
from integrations.login.oidc import OidcLogins

_ERRORS = problem_responses(
    ErrorCode.NOT_FOUND,
    ErrorCode.RATE_LIMITED,
    ErrorCode.WRONG_CELL,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE,
)
_THUMBPRINT = r"^[A-Za-z0-9_-]{43}$"


class AuthorizeBody(ApiModel):
    """Where to send the person."""

    url: str = Field(description="of the identity provider; it sends the person back with `state` and `code`")


def oidc_routes(logins: OidcLogins, cells: AuthCells, names: Sequence[str], limits: Limits) -> APIRouter:
    """Return the route that begins logins; a login is kept in the cell that is asked for, or in the first."""
    router = APIRouter(prefix="/v1/auth/oidc", tags=["identity providers"])
    counted = Depends(limited(limits.route(address=LOGIN_ADDRESS, network=LOGIN_NETWORK)))  # each is a row that is kept

    @router.get(
        "/{issuer}/authorize",
        summary="Begin a login at an identity provider",
        responses=_ERRORS,
        dependencies=[counted],
    )
    async def authorize(
        issuer: Annotated[QueryText, Path(max_length=32)],
        dpop_jkt: Annotated[
            QueryText, Query(pattern=_THUMBPRINT, description="RFC 9449, section 10: of the key that will finish it")
        ],
        cell: Annotated[QueryText, Query(max_length=16)] = "",
    ) -> AuthorizeBody:
        transactions = cells.of(cell or names[0]).transactions
        return AuthorizeBody(url=await logins.begin(issuer, cell or names[0], transactions, dpop_jkt))

    return router
