"""Codes of authenticator apps (RFC 6238): six digits, 30 seconds, one step early or late, each step once."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import pyotp

from domain.accounts import PersonalData, VoterSeals
from domain.credentials import Credential, CredentialKind, Credentials, may_try
from domain.mailing import MessageKind

STEP_S: Final = 30
STEPS_AROUND: Final = 1  # RFC 6238, section 5.2
ISSUER: Final = "Comitia"
_DIGITS: Final = 6
_FIELD: Final = "totp_secret"


class TotpFactor:
    """Enrols and checks authenticator apps of one cell; their secrets are sealed under the voter's own key."""

    def __init__(self, credentials: Credentials, seals: VoterSeals, *, now: Callable[[], float] = time.time) -> None:
        self._credentials = credentials
        self._seals = seals
        self._now = now

    async def enrol(self, voter_id: str, account: str, session_id: str = "") -> str:
        """Begin with a new app in place of the one before; return the `otpauth:` address to show as a picture, once.

        It counts once a first code of it was good. `account` is what the app shows beside our name; `session_id` as in
        `Credentials.put`.
        """
        secret = pyotp.random_base32()
        sealed = await self._seals.seal(voter_id, PersonalData({_FIELD: secret}))
        notice = MessageKind.APP_CHANGED  # now: the one before is gone
        await self._credentials.put(
            voter_id, CredentialKind.TOTP, sealed, confirmed=False, notice=notice, session_id=session_id
        )
        return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=ISSUER)

    async def has(self, voter_id: str) -> bool:
        """Tell whether a voter has an app that counts."""
        return any(found.confirmed for found in await self._credentials.of(voter_id, CredentialKind.TOTP))

    async def check(self, voter_id: str, code: str) -> bool:
        """Tell whether a code of an app that counts is good, once."""
        found = await self._credentials.of(voter_id, CredentialKind.TOTP)
        return bool(found) and found[0].confirmed and await self._check(found[0], code)

    async def confirm(self, voter_id: str, code: str, session_id: str = "") -> bool:
        """Let a new app count, if this is a code of it, good once; `session_id` as in `Credentials.succeeded`."""
        found = await self._credentials.of(voter_id, CredentialKind.TOTP)
        return bool(found) and await self._check(found[0], code, session_id)

    async def _check(self, credential: Credential, code: str, session_id: str = "") -> bool:
        now = self._now()
        if not may_try(credential, datetime.fromtimestamp(now, UTC)):
            return False
        opened = await self._seals.unseal(credential.voter_id, credential.secret)
        step = None if opened is None else _step_of(opened.fields[_FIELD], code, int(now) // STEP_S)
        # Of two who bring the same code at once one advances the counter
        if step is not None and await self._credentials.succeeded(credential, step, session_id):
            return True
        await self._credentials.failed(credential)
        return False


def _step_of(secret: str, code: str, current: int) -> int | None:
    """Return the step whose code this is; every step around now is compared, whichever it is."""
    if len(code) != _DIGITS or not code.isascii() or not code.isdigit():
        return None
    totp, found = pyotp.TOTP(secret), None
    for step in range(current - STEPS_AROUND, current + STEPS_AROUND + 1):
        if totp.verify(code, for_time=step * STEP_S):
            found = step
    return found
