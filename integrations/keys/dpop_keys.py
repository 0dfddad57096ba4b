"""The client's side of a bound token: its key as a JWK, and the proofs that it makes with it (RFC 9449, section 4.2).

Browsers and apps do the same; this one serves tests, the demo and the load client.
"""

import secrets

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from integrations.keys import base64url
from integrations.keys.digests import digest
from integrations.keys.signing import SIGNATURE_BYTES

PROOF_TYPE = "dpop+jwt"
_COORDINATE_BYTES = 32


class PublicJwk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A public key: Ed25519 (`OKP`, `x`) or P-256 (`EC`, `x` and `y`). A private part is refused."""

    kty: str
    crv: str
    x: str
    y: str = ""
    d: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ProofHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """A proof's header; critical extensions are refused, others are ignored."""

    typ: str
    alg: str
    jwk: PublicJwk
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ProofClaims(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a proof says.

    `ath` is the base64url SHA-256 of the access token. `bdh` is a claim of our own, the base64url SHA-256 of the
    request's body as sent, so that a proof cannot be taken to another body.
    """

    jti: str
    htm: str
    htu: str
    iat: int
    ath: str = ""
    bdh: str = ""


def thumbprint(jwk: PublicJwk) -> str:
    """Return the RFC 7638 thumbprint: SHA-256 over the required members in alphabetical order."""
    y = f',"y":"{jwk.y}"' if jwk.kty == "EC" else ""
    return digest(f'{{"crv":"{jwk.crv}","kty":"{jwk.kty}","x":"{jwk.x}"{y}}}'.encode())


class ProofKey:
    """A client's key pair; Ed25519 unless P-256 is asked for."""

    def __init__(self, secret: bytes, *, algorithm: str = "EdDSA") -> None:
        """Take a private key: 32 bytes, a seed for `EdDSA`, a big-endian scalar for `ES256`."""
        self.secret = secret
        self.algorithm = algorithm
        if algorithm == "ES256":
            self._p256 = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
            point = self._p256.public_key().public_numbers()
            x, y = (base64url.encode_text(n.to_bytes(_COORDINATE_BYTES, "big")) for n in (point.x, point.y))
            self.jwk = PublicJwk("EC", "P-256", x, y)
        else:
            public_key, self._ed25519 = crypto_sign_seed_keypair(secret)
            self.jwk = PublicJwk("OKP", "Ed25519", base64url.encode_text(public_key))
        self.jkt = thumbprint(self.jwk)
        header = msgspec.json.encode(ProofHeader(PROOF_TYPE, algorithm, self.jwk))
        self._header = base64url.encode(header) + b"."

    @classmethod
    def generate(cls, *, algorithm: str = "EdDSA") -> "ProofKey":
        """Return a new key."""
        if algorithm == "ES256":
            numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
            return cls(numbers.private_value.to_bytes(_COORDINATE_BYTES, "big"), algorithm=algorithm)
        return cls(secrets.token_bytes(_COORDINATE_BYTES))

    @classmethod
    def from_private_jwk(cls, jwk: dict[str, str]) -> "ProofKey":
        """Return the key of a private JWK, as `private_jwk` gives it."""
        algorithm = "ES256" if jwk["kty"] == "EC" else "EdDSA"
        return cls(base64url.decode(jwk["d"].encode("ascii")), algorithm=algorithm)

    @property
    def private_jwk(self) -> dict[str, str]:
        """The key as a JWK with its private part `d`."""
        members = {"kty": self.jwk.kty, "crv": self.jwk.crv, "x": self.jwk.x}
        if self.jwk.y:
            members["y"] = self.jwk.y
        return {**members, "d": base64url.encode_text(self.secret)}

    def sign(self, claims: ProofClaims) -> str:
        """Return the proof that makes these claims."""
        signed = self._header + base64url.encode(msgspec.json.encode(claims))
        return (signed + b"." + base64url.encode(self._signature(signed))).decode("ascii")

    def _signature(self, message: bytes) -> bytes:
        if self.algorithm == "ES256":
            r, s = decode_dss_signature(self._p256.sign(message, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
        signed: bytes = crypto_sign(message, self._ed25519)
        return signed[:SIGNATURE_BYTES]


def make_proof(key: ProofKey, method: str, url: str, now: float, *, token: str = "", body: bytes = b"") -> str:
    """Return a fresh proof for one request; `url` without query, `body` as it will be sent."""
    claims = ProofClaims(
        jti=secrets.token_urlsafe(16),
        htm=method,
        htu=url,
        iat=int(now),
        ath=digest(token.encode("ascii")) if token else "",
        bdh=digest(body),
    )
    return key.sign(claims)
