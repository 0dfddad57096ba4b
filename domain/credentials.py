"""What people prove themselves by: passwords, passkeys, authenticator apps, codes by mail, recovery codes."""

import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from domain.errors import DomainError, ErrorCode
from domain.mailing import MessageKind

# NIST SP 800-63B-4, section 3.1.1.2: fifteen characters where a password may be the only factor; no other rule.
PASSWORD_CHARACTERS_MIN = 15
PASSWORD_CHARACTERS_MAX = 256
CODE_DIGITS = 8
CODE_LIFETIME = timedelta(minutes=10)
CODE_TRIES = 5  # of 10^8 codes: one in twenty million is guessed
RECOVERY_CODES = 10
FREE_FAILURES = 4  # in a row, after which nothing has to be waited for
_FIRST_WAIT = timedelta(seconds=15)
_LONGEST_WAIT = timedelta(minutes=15)


class CredentialKind(StrEnum):
    """What somebody has or knows."""

    PASSWORD = "password"  # noqa: S105 - a kind
    PASSKEY = "passkey"
    TOTP = "totp"
    RECOVERY_CODE = "recovery_code"


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential; `secret` as its kind keeps it, `counter` a passkey's signatures or the last used TOTP step."""

    credential_id: str
    voter_id: str
    kind: CredentialKind
    secret: bytes = field(repr=False)
    counter: int
    confirmed: bool
    failures: int
    last_failed_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """A passkey that answered our challenge and is not kept yet: sealed for its voter, found by 32 bytes."""

    sealed: bytes = field(repr=False)
    handle: bytes
    counter: int


def checked_password(password: str) -> str:
    """Return a password as it is hashed: in Unicode's form NFKC, so that keyboards agree.

    Raises:
        DomainError: `password_not_accepted`; shorter than 15 or longer than 256 characters.
    """
    normal = unicodedata.normalize("NFKC", password)
    if not PASSWORD_CHARACTERS_MIN <= len(normal) <= PASSWORD_CHARACTERS_MAX:
        raise DomainError(
            ErrorCode.PASSWORD_NOT_ACCEPTED,
            f"a password has {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters",
        )
    return normal


def wait_after(failures: int) -> timedelta:
    """Return how long nothing is tried after so many failures in a row: none after four, then doubling to 15 min.

    RFC 4226, section 7.3. It grows no further, so that nobody can lock somebody else out for good.
    """
    if failures <= FREE_FAILURES:
        return timedelta(0)
    doublings: int = min(failures - FREE_FAILURES - 1, 10)
    return min(_LONGEST_WAIT, _FIRST_WAIT * (1 << doublings))


def may_try(credential: Credential, now: datetime) -> bool:
    """Tell whether the credential may be tried now."""
    failed_at = credential.last_failed_at
    return failed_at is None or now >= failed_at + wait_after(credential.failures)


def new_sent_code() -> str:
    """Return a code of eight digits for a mail or a short message."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"


class Credentials(Protocol):
    """The credentials of one cell's voters. Calls raise DomainError `directory_unavailable`."""

    async def of(self, voter_id: str, kind: CredentialKind) -> list[Credential]:
        """Return a voter's credentials of a kind, oldest first."""
        ...

    async def by_handle(self, kind: CredentialKind, handle: bytes) -> Credential | None:
        """Return the credential with a handle of 32 bytes, or None."""
        ...

    async def put(
        self,
        voter_id: str,
        kind: CredentialKind,
        secret: bytes,
        *,
        handle: bytes | None = None,
        counter: int = 0,
        confirmed: bool = True,
        notice: MessageKind | None = None,
        session_id: str = "",
    ) -> bool:
        """Add a credential, or replace the one password or authenticator app; False where the handle is taken.

        With `notice` the voter is told so by mail, whatever happens to this process (`AccountNotices`). With
        `session_id`, of who asks for it, nothing is kept once that session has ended.

        Raises:
            DomainError: `step_up_required`: it has.
        """
        ...

    async def succeeded(self, credential: Credential, counter: int, session_id: str = "") -> bool:
        """Note a success, which confirms it, once per `counter`: False where that one or a later one was used.

        A `counter` of 0 is of a credential that counts nothing. Also False where others have failed since `credential`
        was read, until there is something to wait for: of guesses that come all at once no more are tried than of
        those that come one by one. A passkey is not guessed at. With `session_id`, of who confirms it, nothing is noted
        once that session has ended.

        Raises:
            DomainError: `step_up_required`: it has.
        """
        ...

    async def failed(self, credential: Credential) -> None:
        """Count a failure."""
        ...

    async def rehash(self, credential: Credential, secret: bytes) -> None:
        """Replace a password's hash by one of the same password, unless it has changed since."""
        ...

    async def spend(self, voter_id: str, handle: bytes) -> bool:
        """Use up a recovery code; False where there is none of this voter. Of two who ask at once one gets True."""
        ...

    async def replace_recovery_codes(self, voter_id: str, handles: Sequence[bytes], session_id: str = "") -> None:
        """Keep recovery codes, by handles of 32 bytes, in place of all that there were; the voter is told by mail.

        Raises:
            DomainError: `step_up_required`: the session `session_id`, of who asks, has ended; nothing has changed.
        """
        ...

    async def remove(self, voter_id: str, credential_id: str = "") -> int:
        """Remove one credential of a voter, or all of them; return how many there were. Safe to repeat."""
        ...


class SentCodes(Protocol):
    """Codes that were sent by mail in one cell, one per subject (an attempt and its channel).

    Calls raise DomainError `directory_unavailable` or `key_unavailable`.
    """

    async def put(self, subject: str, code: str) -> None:
        """Keep a code's keyed hash for ten minutes in place of the one before, with five tries."""
        ...

    async def redeem(self, subject: str, code: str) -> bool:
        """Tell whether this is the code, once; a wrong one is a try less, whoever asks at once."""
        ...
