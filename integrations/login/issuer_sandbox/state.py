"""What the sandbox issuer knows: its keys, its people, and the codes that it has given out."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from integrations.addresses import is_loopback, is_secure_url
from integrations.vendor_settings import IdentityProviderSettings

CODE_LIFETIME_S = 60.0
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_KEY_BITS = 2048
_ID_TOKEN_LIFETIME_S = 36_000
_LOGOUT_LIFETIME_S = 120


@dataclass(slots=True)
class SigningKey:
    """A key pair; one that is not published is unknown to whoever reads the key set."""

    key_id: str
    private: rsa.RSAPrivateKey
    published: bool = True

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as listed."""
        members: dict[str, Any] = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        members.pop("key_ops", None)
        return {**members, "kid": self.key_id, "use": "sig", "alg": "RS256"}

    @property
    def public_pem(self) -> bytes:
        """What a confused verifier would take for the secret of a MAC."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


@dataclass(frozen=True, slots=True)
class GrantedCode:
    """An authorization code's terms."""

    redirect_uri: str
    challenge: str
    nonce: str
    subject: str
    expires_at: float
    auth_time: int | None = None


@dataclass(slots=True)
class Issuer:
    """One tenant with one client, as the settings name them; `subject` logs in next, unless `error` is set.

    Without a `subject` whoever comes says who they are.
    """

    settings: IdentityProviderSettings
    now: Callable[[], float] = time.time
    subject: str = "auth0|sandbox"
    mail: str = "sandbox@example.org"
    error: str = ""
    flaw: dict[str, Any] = field(default_factory=dict)  # claims that the next ID tokens have instead
    keys: list[SigningKey] = field(default_factory=list)
    codes: dict[str, GrantedCode] = field(default_factory=dict)
    return_path: str = ""  # also back to this path on any port of this machine, where one is given
    names_token_endpoint: bool = True  # in the discovery document
    logged_in_at: float = 0.0  # who is asked to log in anew does

    def __post_init__(self) -> None:
        """Make the current key and the next, where none are given."""
        self.keys = self.keys or [new_key(), new_key()]

    def rotate(self, *, publish: bool = True) -> None:
        """Sign with a new key from now on; the one before stays listed."""
        made = new_key()
        made.published = publish
        self.keys = [made, *self.keys[:2]]

    def returns_to(self, redirect_uri: str) -> bool:
        """Tell whether people may be sent back there."""
        parts = urlsplit(redirect_uri)
        is_console = bool(self.return_path) and parts.path.endswith(self.return_path)
        is_here = is_secure_url(redirect_uri) and is_loopback(parts.hostname or "") and not parts.query
        return redirect_uri == self.settings.redirect_uri or (is_console and is_here)

    def grant(
        self, redirect_uri: str, challenge: str, nonce: str, subject: str, *, max_age_s: int | None = None
    ) -> str:
        """Return a code for the person who logs in, good once and for a minute.

        With `max_age_s` the person logs in again, unless that was so short a time ago, and the ID token says when.
        """
        code, auth_time = secrets.token_urlsafe(32), None
        if max_age_s is not None:
            if self.now() - self.logged_in_at > max_age_s:
                self.logged_in_at = self.now()
            auth_time = int(self.logged_in_at)
        expires_at = self.now() + CODE_LIFETIME_S
        self.codes[code] = GrantedCode(redirect_uri, challenge, nonce, subject, expires_at, auth_time)
        return code

    def id_token(self, subject: str, nonce: str, *, auth_time: int | None = None, **other: Any) -> str:
        """Return an ID token; claims of `other` replace ours, and None leaves one out."""
        claims = self._claims(_ID_TOKEN_LIFETIME_S) | {
            "sub": subject,
            "nonce": nonce,
            "sid": f"sid-{subject}",
            "email": self.mail,
            "email_verified": True,
            "auth_time": auth_time,
        }
        return self.sign(claims | self.flaw | other)

    def logout_token(self, **other: Any) -> str:
        """Return a logout token of the person who logs in; claims of `other` replace ours, None leaves one out."""
        claims = self._claims(_LOGOUT_LIFETIME_S) | {
            "sub": self.subject,
            "sid": f"sid-{self.subject}",
            "jti": secrets.token_urlsafe(16),
            "events": {LOGOUT_EVENT: {}},
        }
        return self.sign(claims | other, typ="logout+jwt")

    def sign(self, claims: dict[str, Any], *, typ: str = "JWT") -> str:
        """Return a token with those claims that are not None, under the current key."""
        present = {name: value for name, value in claims.items() if value is not None}
        key = self.keys[0]
        return jwt.encode(present, key.private, algorithm="RS256", headers={"kid": key.key_id, "typ": typ})

    def _claims(self, lifetime_s: int) -> dict[str, Any]:
        now = int(self.now())
        return {"iss": self.settings.issuer, "aud": self.settings.client_id, "iat": now, "exp": now + lifetime_s}


def new_key() -> SigningKey:
    """Return a new key pair, published."""
    return SigningKey(secrets.token_hex(8), rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS))
