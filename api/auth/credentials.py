"""What a voter logs in with: shown, added and removed.

Every change ends the voter's other sessions, and is told by mail.
"""

import uuid
from dataclasses import dataclass

from api.auth.cells import AuthCell, AuthCells
from api.auth.new_passwords import NewPasswords
from api.auth.recent import recent_session
from api.auth.sessions import SessionDesk
from domain.credentials import Credential, CredentialKind
from domain.errors import DomainError, ErrorCode
from domain.ids import cell_of_voter
from domain.mailing import MessageKind
from domain.registration import MAIL_FIELD
from domain.sessions import EndReason
from domain.tokens import VoterClaims
from integrations.login.passkeys import JsonObject, Passkeys

_SHOWN = (CredentialKind.PASSWORD, CredentialKind.PASSKEY, CredentialKind.TOTP)


@dataclass(frozen=True, slots=True)
class Held:
    """A voter's credentials, and how many recovery codes are left."""

    credentials: tuple[Credential, ...]
    recovery_codes: int


class CredentialDesk:
    """Changes credentials for who has just logged in.

    All calls raise DomainError `wrong_cell`, `cell_unavailable`, `directory_unavailable`; all but `of_voter` also
    `step_up_required`, and those that seal something `key_unavailable` and `key_destroyed`.
    """

    def __init__(self, cells: AuthCells, sessions: SessionDesk, passwords: NewPasswords) -> None:
        self._cells = cells
        self._sessions = sessions
        self._passwords = passwords

    async def of_voter(self, claims: VoterClaims) -> Held:
        """Return what a voter has."""
        kept = self._cells.of(cell_of_voter(claims.sub)).credentials
        found = [credential for kind in _SHOWN for credential in await kept.of(claims.sub, kind)]
        codes = await kept.of(claims.sub, CredentialKind.RECOVERY_CODE)
        return Held(tuple(found), len(codes))

    async def set_password(self, claims: VoterClaims, password: str) -> None:
        """Set or replace the password. Raises DomainError `password_not_accepted`, `breaches_unavailable`."""
        cell = await recent_session(self._cells, claims)
        hashed = await self._passwords.hash(password)
        await cell.credentials.put(
            claims.sub, CredentialKind.PASSWORD, hashed, notice=MessageKind.PASSWORD_CHANGED, session_id=claims.sid
        )
        await self._changed(claims)

    async def remove(self, claims: VoterClaims, credential_id: str) -> None:
        """Remove a credential. Raises DomainError `factor_not_found`, `last_credential`."""
        cell = await recent_session(self._cells, claims)
        if not _is_uuid(credential_id):
            raise DomainError(ErrorCode.FACTOR_NOT_FOUND)
        if not await cell.ways.remove_credential(claims.sub, credential_id, claims.sid):
            raise DomainError(ErrorCode.FACTOR_NOT_FOUND)
        await self._changed(claims)

    async def begin_passkey(self, claims: VoterClaims) -> JsonObject:
        """Return what the browser makes a passkey from. Raises DomainError `factor_not_found`: none are taken here."""
        cell = await recent_session(self._cells, claims)
        return await _passkeys(cell).begin_registration(claims.sub, await _account(cell, claims))

    async def add_passkey(self, claims: VoterClaims, response: JsonObject) -> None:
        """Keep a passkey. Raises DomainError `passkey_not_accepted`, `factor_not_found`."""
        cell = await recent_session(self._cells, claims)
        if not await _passkeys(cell).finish_registration(claims.sub, response, claims.sid):
            raise DomainError(ErrorCode.PASSKEY_NOT_ACCEPTED)
        await self._changed(claims)

    async def begin_totp(self, claims: VoterClaims) -> str:
        """Return the address that an authenticator app is set up with, in place of the one before."""
        cell = await recent_session(self._cells, claims)
        uri = await cell.totp.enrol(claims.sub, await _account(cell, claims), claims.sid)
        await self._changed(claims)  # the one before is gone already
        return uri

    async def confirm_totp(self, claims: VoterClaims, code: str) -> None:
        """Make a new app count by its first code. Raises DomainError `code_wrong`."""
        cell = await recent_session(self._cells, claims)
        if not await cell.totp.confirm(claims.sub, code, claims.sid):
            raise DomainError(ErrorCode.CODE_WRONG, "not a code of the app, or one that was used")
        await self._changed(claims)

    async def renew_recovery_codes(self, claims: VoterClaims) -> list[str]:
        """Return new recovery codes in place of all that there were."""
        cell = await recent_session(self._cells, claims)
        codes = await cell.recovery_codes.renew(claims.sub, claims.sid)
        await self._changed(claims)
        return codes

    async def _changed(self, claims: VoterClaims) -> None:
        await self._sessions.end_all(claims.sub, EndReason.CREDENTIALS_CHANGED, but=claims.sid)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _passkeys(cell: AuthCell) -> Passkeys:
    if cell.passkeys is None:
        raise DomainError(ErrorCode.FACTOR_NOT_FOUND, "passkeys are not taken here")
    return cell.passkeys


async def _account(cell: AuthCell, claims: VoterClaims) -> str:
    """Return what an authenticator shows beside our name."""
    data = await cell.records.get(claims.sub)
    return "voter" if data is None else data.fields.get(MAIL_FIELD, "voter")
