"""Signed tokens: JWTs with Ed25519 and nothing else (RFC 7519, RFC 8037, RFC 8725).

Verified by hand because the vote route does it 240,000 times a second: accepted header segments are remembered with
their key, claims are read by a decoder compiled from their type, and what remains is one Ed25519 verification.
"""

from typing import Generic, TypeVar

import msgspec
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from domain.errors import DomainError, ErrorCode
from domain.tokens import LEEWAY_S, LIFETIME_S, TOKEN_BYTES_MAX, VOTING, Claims, TokenKind, VotingClaims, VotingWire
from integrations.keys import base64url
from integrations.keys.signing import SIGNATURE_BYTES, Signer, VerificationKeys

ALGORITHM = "EdDSA"
NULLIFIER_BYTES = 32
_HEADERS_MAX = 64  # remembered at once; there are as many as live keys
_SIGNATURE_CHARACTERS = 86

C = TypeVar("C", bound=Claims)


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    """Every header parameter that we take: no `crit`, no `jwk`, no `jku`, no `x5u`."""

    alg: str
    kid: str
    typ: str


def _invalid(detail: str) -> DomainError:
    return DomainError(ErrorCode.TOKEN_INVALID, detail)


class TokenIssuer:
    """Signs claims as tokens of one kind."""

    def __init__(self, signer: Signer, kind: TokenKind) -> None:
        self._signer = signer
        self._kind = kind
        self._encoder = msgspec.json.Encoder()
        self._header = b""
        self._header_key_id = ""

    def sign(self, claims: Claims) -> str:
        """Return the compact form of a token with these claims."""
        if self._header_key_id != self._signer.key_id:
            self._header_key_id = self._signer.key_id
            header = _Header(alg=ALGORITHM, kid=self._header_key_id, typ=self._kind.typ)
            self._header = base64url.encode(self._encoder.encode(header)) + b"."
        signed = self._header + base64url.encode(self._encoder.encode(claims))
        return (signed + b"." + base64url.encode(self._signer.sign(signed))).decode("ascii")


class TokenVerifier(Generic[C]):
    """Verifies tokens of one kind, without I/O."""

    def __init__(self, claims: type[C], kind: TokenKind, keys: VerificationKeys) -> None:
        self._kind = kind
        self._keys = keys
        self._claims = msgspec.json.Decoder(claims)
        self._header = msgspec.json.Decoder(_Header)
        self._known: dict[bytes, bytes] = {}
        self._known_from = keys.by_id

    def verify(self, token: bytes, now: float) -> C:
        """Return the claims of a token that is genuine, of this kind, and valid at `now` (seconds since 1970).

        Raises:
            DomainError: `token_expired`; `token_invalid` for everything else.
        """
        claims = self.open(token)
        self._check(claims, now)
        return claims

    def open(self, token: bytes) -> C:
        """Return the claims of a genuine token, also of one that is good for nothing any more.

        Raises:
            DomainError: `token_invalid`.
        """
        if len(token) > TOKEN_BYTES_MAX:
            raise _invalid("the token is too long")
        header, dot, rest = token.partition(b".")
        payload, dot, signature = rest.partition(b".")
        if not dot or len(signature) != _SIGNATURE_CHARACTERS:
            raise _invalid("not a signed token")
        if self._known_from is not self._keys.by_id:
            self._known, self._known_from = {}, self._keys.by_id
        known = self._known.get(header)
        key = known if known is not None else self._key(header)
        try:
            crypto_sign_open(base64url.decode(signature) + token[: -1 - _SIGNATURE_CHARACTERS], key)
            claims = self._claims.decode(base64url.decode(payload))
        except BadSignatureError:
            raise _invalid("the signature does not match") from None
        except (ValueError, msgspec.DecodeError):
            raise _invalid("the token is malformed") from None
        if known is None and len(self._known) < _HEADERS_MAX:  # remembered only once a signature vouched for it
            self._known[header] = key
        return claims

    def _key(self, segment: bytes) -> bytes:
        try:
            header = self._header.decode(base64url.decode(segment))
        except (ValueError, msgspec.DecodeError):
            raise _invalid("the token's header is malformed") from None
        if header.alg != ALGORITHM or header.typ != self._kind.typ:
            raise _invalid("a token of another kind")
        key = self._keys.get(header.kid)
        if key is None:
            raise _invalid("the token's key is not known")
        return key

    def _check(self, claims: Claims, now: float) -> None:
        kind = self._kind
        if claims.iss != kind.issuer or claims.aud != kind.audience or claims.scope != kind.scope:
            raise _invalid("the token is for something else")
        if now >= claims.exp + LEEWAY_S:
            raise DomainError(ErrorCode.TOKEN_EXPIRED)
        if claims.iat > now + LEEWAY_S or claims.nbf > now + LEEWAY_S:
            raise _invalid("the token is from the future")
        if claims.exp - claims.iat > LIFETIME_S:
            raise _invalid("the token lives too long")


class VotingTokenVerifier:
    """Verifies voting tokens and opens what they carry."""

    def __init__(self, keys: VerificationKeys) -> None:
        self._tokens = TokenVerifier(VotingWire, VOTING, keys)

    def verify(self, token: bytes, now: float) -> VotingClaims:
        """Return the claims of a voting token valid at `now` (seconds since 1970); whose survey is the caller's check.

        Raises:
            DomainError: `token_expired`; `token_invalid` for everything else.
        """
        wire = self._tokens.verify(token, now)
        try:
            nullifier = base64url.decode(wire.nullifier.encode())
            evidence = base64url.decode(wire.evidence.encode())
        except ValueError:
            raise _invalid("the token is malformed") from None
        if len(nullifier) != NULLIFIER_BYTES or len(evidence) != SIGNATURE_BYTES:
            raise _invalid("the token is malformed")
        return VotingClaims(
            wire.survey, nullifier, wire.cell, wire.region, evidence, wire.device, wire.jkt, wire.iat, wire.exp
        )
