"""Proofs of possession (RFC 9449): whoever uses a bound token shows that he holds its key, for this request alone."""

import hashlib
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from domain.errors import DomainError, ErrorCode
from integrations.keys import base64url
from integrations.keys.digests import digest
from integrations.keys.dpop_keys import PROOF_TYPE, ProofClaims, ProofHeader, PublicJwk, thumbprint
from integrations.keys.replays import ReplayCache
from integrations.keys.signing import SIGNATURE_BYTES, is_signed

PROOF_BYTES_MAX = 2048
AGE_MAX_S = 60  # since the proof was made
AHEAD_MAX_S = 10  # how far the client's clock may be ahead
KEPT_S = AGE_MAX_S + 2 * AHEAD_MAX_S  # a proof may be taken for so long, by processes whose clocks differ like clients'
_JTI_CHARACTERS_MAX = 128
_KEY_BYTES = 32
_DEFAULT_PORTS = {"https": 443, "http": 80}
_URLS_MAX = 256


def _invalid(detail: str) -> DomainError:
    return DomainError(ErrorCode.PROOF_INVALID, detail)


def normal_url(url: str) -> str:
    """Return scheme, host, port and path of an http(s) URL in one spelling, without query and fragment.

    Raises:
        ValueError: not such a URL. Source: RFC 9449, section 4.3, point 9; RFC 3986, sections 6.2.2 and 6.2.3.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not an http(s) URL")
    port = parts.port or _DEFAULT_PORTS[scheme]
    return f"{scheme}://{parts.hostname}:{port}{parts.path or '/'}"


class Proven(NamedTuple):
    """What a good proof shows: the thumbprint of the key that is held, and 16 bytes that name this proof alone."""

    jkt: str
    proof: bytes


class DpopVerifier:
    """Verifies proofs without I/O. Public keys are parsed anew each time: every client has his own."""

    def __init__(self, replays: ReplayCache | None = None) -> None:
        self._replays = replays if replays is not None else ReplayCache()
        self._header = msgspec.json.Decoder(ProofHeader)
        self._claims = msgspec.json.Decoder(ProofClaims)
        self._urls: dict[str, str] = {}

    def verify(
        self,
        proof: bytes | None,
        *,
        method: str,
        url: str,
        token: bytes | None,
        body: bytes | None,
        jkt: str | None,
        now: float,
    ) -> Proven:
        """Return what a proof shows, once per proof.

        `url` is the request's as clients see it; `token` what it is used with (its `ath` is then demanded); `body` as
        received, or None where the method has none (its `bdh` is else demanded); `jkt` the thumbprint that the token
        is bound to, or None where a token is about to be bound; `now` in seconds since 1970.

        Raises:
            DomainError: `proof_invalid`.
        """
        if not proof:
            raise _invalid("a proof is needed")
        if len(proof) > PROOF_BYTES_MAX:
            raise _invalid("the proof is too long")
        claims, found = self._open(proof)
        if jkt is not None and found != jkt:
            raise _invalid("the proof is of another key")
        if claims.htm != method:
            raise _invalid("the proof is for another method")
        self._check_url(claims.htu, url)
        if not now - AGE_MAX_S <= claims.iat <= now + AHEAD_MAX_S:
            raise _invalid("the proof is not fresh")
        if token is not None and claims.ath != digest(token):
            raise _invalid("the proof is for another token")
        if body is not None and claims.bdh != digest(body):
            raise _invalid("the proof is for another body")
        if not 1 <= len(claims.jti) <= _JTI_CHARACTERS_MAX:
            raise _invalid("the proof has no usable jti")
        identifier = hashlib.sha256(f"{found}.{claims.jti}".encode()).digest()[:16]
        if not self._replays.add(identifier, claims.iat, int(now - AGE_MAX_S)):
            raise _invalid("the proof was used before")
        return Proven(found, identifier)

    def _open(self, proof: bytes) -> tuple[ProofClaims, str]:
        """Return the claims and the key's thumbprint of a proof that its own key has signed."""
        signed, _, last = proof.rpartition(b".")
        segment, _, payload = signed.partition(b".")
        try:
            header = self._header.decode(base64url.decode(segment))
            signature = base64url.decode(last)
            claims = self._claims.decode(base64url.decode(payload))
            if header.typ != PROOF_TYPE or header.crit is not msgspec.UNSET or header.jwk.d is not msgspec.UNSET:
                raise _invalid("not a proof that we take")
            genuine = _is_signed(header.alg, header.jwk, signed, signature)
        except (ValueError, msgspec.DecodeError):
            raise _invalid("the proof is malformed") from None
        if not genuine:
            raise _invalid("the proof's signature does not match")
        return claims, thumbprint(header.jwk)

    def _check_url(self, htu: str, url: str) -> None:
        if htu == url:
            return
        try:
            wanted = self._urls.get(url)
            if wanted is None:
                if len(self._urls) >= _URLS_MAX:
                    self._urls.clear()
                wanted = self._urls[url] = normal_url(url)
            if normal_url(htu) == wanted:
                return
        except ValueError:
            pass
        raise _invalid("the proof is for another address")


def _is_signed(algorithm: str, jwk: PublicJwk, message: bytes, signature: bytes) -> bool:
    """Tell whether a key signed a message. Raises ValueError where it is no key of the algorithm."""
    if algorithm == "EdDSA" and jwk.kty == "OKP" and jwk.crv == "Ed25519":
        return is_signed(message, signature, _coordinate(jwk.x))
    if algorithm == "ES256" and jwk.kty == "EC" and jwk.crv == "P-256":
        return _is_signed_es256(jwk, message, signature)
    raise ValueError("not an algorithm that we take with this key")


def _coordinate(text: str) -> bytes:
    content = base64url.decode(text.encode("ascii"))
    if len(content) != _KEY_BYTES:
        raise ValueError("not a key")
    return content


def _is_signed_es256(jwk: PublicJwk, message: bytes, signature: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES:
        return False
    x, y = (int.from_bytes(_coordinate(text), "big") for text in (jwk.x, jwk.y))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()  # ValueError off the curve
    half = SIGNATURE_BYTES // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


class RequestProofs:
    """Checks the proofs of one service's requests, which clients reach under `public_url`."""

    def __init__(self, verifier: DpopVerifier, public_url: str) -> None:
        """Take the address that clients use, without a path of its own: `https://api.example.org`.

        Raises:
            ValueError: it is not an http(s) URL.
        """
        normal_url(public_url)
        self._verifier = verifier
        self._base = public_url.rstrip("/")

    def verify(self, proof: bytes, *, method: str, path: str, token: bytes, body: bytes, jkt: str, now: float) -> bytes:
        """Accept a proof of `jkt`'s key for this request, once; return what names the proof.

        Raises:
            DomainError: `proof_invalid`.
        """
        url = self._base + path
        return self._verifier.verify(proof, method=method, url=url, token=token, body=body, jkt=jkt, now=now).proof

    def key_of(self, proof: bytes | None, *, method: str, path: str, body: bytes, now: float) -> Proven:
        """Return the key that this request proves to hold, once; no token is bound to it yet.

        Raises:
            DomainError: `proof_invalid`.
        """
        return self._verifier.verify(
            proof, method=method, url=self._base + path, token=None, body=body, jkt=None, now=now
        )
