"""The check of a voting token and of its proof of possession as PyJWT's documentation writes it.

Both baselines use it, on the tokens that Comitia checks by hand. The issuer's key and the address that a proof must
name come from the environment: `BASELINE_ISSUER_KEY` (32 bytes, hex), `BASELINE_PUBLIC_URL`.
"""

import base64
import hashlib
import os
from time import time
from typing import Annotated, Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import Depends, Header, HTTPException, Request

ISSUER = "comitia/eligibility"
AUDIENCE = "votes"
SCOPE = "vote"
ISSUER_KEY = Ed25519PublicKey.from_public_bytes(bytes.fromhex(os.environ["BASELINE_ISSUER_KEY"]))
PUBLIC_URL = os.environ.get("BASELINE_PUBLIC_URL", "")
PROOF_AGE_S = 300


async def voting_token(survey_id: str, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Return the claims of a voting token for this survey, or refuse with 401."""
    scheme, _, token = authorization.partition(" ")
    if scheme not in {"Bearer", "DPoP"}:
        raise HTTPException(401, "a voting token is needed")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            ISSUER_KEY,
            algorithms=["EdDSA"],
            issuer=ISSUER,
            audience=AUDIENCE,
            options={"require": ["exp", "iss", "aud"]},
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "the voting token is not valid") from error
    if claims["survey"] != survey_id or claims["scope"] != SCOPE:
        raise HTTPException(401, "the voting token is for something else")
    return claims


Claims = Annotated[dict[str, Any], Depends(voting_token)]


async def check_proof(request: Request, claims: dict[str, Any], proof: str | None) -> None:
    """Check the proof of possession of a bound token as RFC 9449 section 4.3 lists it; refuse with 401."""
    if proof is None:
        raise HTTPException(401, "a proof is needed")
    try:
        header = jwt.get_unverified_header(proof)
        jwk = header["jwk"]
        said = jwt.decode(proof, jwt.PyJWK(jwk), algorithms=["EdDSA"], options={"require": ["iat", "jti"]})
    except (jwt.PyJWTError, KeyError) as error:
        raise HTTPException(401, "the proof is not valid") from error
    token = request.headers["authorization"].partition(" ")[2]
    expected = (
        (header.get("typ"), "dpop+jwt"),
        (_digest(f'{{"crv":"{jwk["crv"]}","kty":"{jwk["kty"]}","x":"{jwk["x"]}"}}'.encode()), claims["cnf"]["jkt"]),
        (said.get("htm"), request.method),
        (said.get("htu"), PUBLIC_URL + request.url.path),
        (said.get("ath"), _digest(token.encode())),
        (said.get("bdh"), _digest(await request.body())),
    )
    if any(found != wanted for found, wanted in expected) or abs(time() - said["iat"]) > PROOF_AGE_S:
        raise HTTPException(401, "the proof is for another request")


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
