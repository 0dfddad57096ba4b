"""The public keys of voters' access tokens, for whoever checks them elsewhere (RFC 7517, RFC 8037)."""

from typing import Final, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from api.http.application import problem_responses
from api.http.limits import Limits, limited
from api.http.models import ApiModel
from domain.errors import ErrorCode
from domain.limits import SURVEY_ADDRESS, SURVEY_NETWORK
from integrations.keys import base64url
from integrations.keys.signing import VerificationKeys

# A rotated key signs a minute after it is first seen (`Ed25519Signer`), we list it within ten seconds: a copy this old
# still knows every key that a token names.
MAX_AGE_S: Final = 30


class KeyBody(ApiModel):
    """An Ed25519 public key."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    alg: Literal["EdDSA"] = "EdDSA"
    use: Literal["sig"] = "sig"
    kid: str
    x: str = Field(description="base64url without padding")


class KeysBody(ApiModel):
    """Every key under which a token may still be valid: of a rotation, the old one and the new one."""

    keys: tuple[KeyBody, ...] = Field(strict=False)


def key_routes(keys: VerificationKeys, limits: Limits) -> APIRouter:
    """Return the route of the key set."""
    router = APIRouter(tags=["keys"])
    counted = Depends(limited(limits.route(address=SURVEY_ADDRESS, network=SURVEY_NETWORK)))

    @router.get(
        "/.well-known/jwks.json",
        summary="The public keys of access tokens",
        responses=problem_responses(ErrorCode.RATE_LIMITED),
        dependencies=[counted],
    )
    async def jwks(response: Response) -> KeysBody:
        response.headers["cache-control"] = f"public, max-age={MAX_AGE_S}"
        known = sorted(keys.by_id.items())
        return KeysBody(keys=tuple(KeyBody(kid=key_id, x=base64url.encode_text(key)) for key_id, key in known))

    return router
