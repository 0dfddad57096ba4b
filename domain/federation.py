"""Logins at identity providers: who somebody is there, and the state that a login there is begun with."""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

PROVIDER = re.compile(r"[a-z0-9_-]{1,32}")
TRANSACTION_LIFETIME = timedelta(minutes=10)  # how long somebody may take at the provider
_STATE = re.compile(r"st_(?P<cell>[a-z][a-z0-9]{0,15})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class ProviderIdentity:
    """Somebody as a provider knows him; `mail` only where the provider says that it is verified."""

    provider: str  # its name in the settings
    issuer: str
    subject: str = field(repr=False)
    sid: str = field(default="", repr=False)
    mail: str = field(default="", repr=False)
    person: str = field(default="", repr=False)  # the same in all their accounts, where the settings name its claim
    with_second_factor: bool = False  # at the provider, in this very login

    @property
    def login(self) -> str:
        """What an account is found by: `LookupKind.LOGIN` of issuer and subject, which an issuer cannot run into."""
        return login_of(self.issuer, self.subject)


@dataclass(frozen=True, slots=True)
class ProviderLogout:
    """A logout that a provider tells of: of its session `sid` or, without one, of all of `subject`'s here."""

    provider: str
    issuer: str
    jti: str
    sid: str = field(default="", repr=False)
    subject: str = field(default="", repr=False)

    @property
    def login(self) -> str:
        """As `ProviderIdentity.login`."""
        return login_of(self.issuer, self.subject)


def login_of(issuer: str, subject: str) -> str:
    """Return issuer and subject as one text; an issuer is a URL, so it has no space."""
    return f"{issuer} {subject}"


def new_state(cell: str) -> str:
    """Return the state of a new login, 256 random bits behind the cell that keeps it: `st_eu_...`."""
    return f"st_{cell}_{_text(secrets.token_bytes(32))}"


def cell_of_state(state: str) -> str | None:
    """Return the cell that a state names, or None where it is none of ours."""
    found = _STATE.fullmatch(state)
    return found["cell"] if found else None


def state_hash(state: str) -> bytes:
    """Return what is kept of a state or challenge: its SHA-256."""
    return hashlib.sha256(state.encode()).digest()


def derived(secret: bytes, state: str, use: str) -> str:
    """Return 43 characters for one use (`nonce`, `verifier`): neither the stored secret nor the state tells them."""
    return _text(hmac.digest(secret, f"comitia/{use}/{state}".encode(), hashlib.sha256))


def challenge_of(verifier: str) -> str:
    """Return the PKCE challenge of a verifier (RFC 7636, section 4.2, S256)."""
    return _text(hashlib.sha256(verifier.encode("ascii")).digest())


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode("ascii").rstrip("=")


@dataclass(frozen=True, slots=True)
class Transaction:
    """What was kept of a login that was begun: for whom, 32 secret bytes, and for how long it would still be good."""

    subject: str
    secret: bytes = field(repr=False)
    left: timedelta = TRANSACTION_LIFETIME


class LoginTransactions(Protocol):
    """Logins of one cell that are under way. Calls raise DomainError `directory_unavailable`."""

    async def begin(self, kind: str, state: str, subject: str, lifetime: timedelta) -> bytes:
        """Keep a state's hash for a while, for a subject (at most 128 characters); return its secret, 32 bytes."""
        ...

    async def take(self, kind: str, state: str) -> Transaction | None:
        """Return a transaction that has not expired, once: whoever asks again, or at the same time, gets None."""
        ...
