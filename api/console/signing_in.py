"""Signing in to the console: authorization code with PKCE at the identity provider of staff, and then the roll.

Who somebody is, the provider says. Whether they are staff, and as what, the roll of a cell says and nothing else. What
is begun is kept sealed in the browser that began it, so that a code which another browser was given is no good here.
"""

import hmac
import json
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog

from domain.accounts import LookupHashes, LookupKind
from domain.canonical import provider_login, provider_person
from domain.console import SIGN_IN_WITHIN, ConsoleSession, ConsoleSessions
from domain.errors import DomainError, ErrorCode
from domain.federation import ProviderIdentity
from domain.ids import new_console_session_id
from domain.staff import StaffAccounts, StaffMember
from integrations.login.oidc import OidcProvider

_CODE_CHARACTERS_MAX = 4096

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StaffCell:
    """The staff of a cell and their sessions."""

    accounts: StaffAccounts
    sessions: ConsoleSessions


class SignIn:
    """Begins and ends sign-ins. Calls raise DomainError `identity_provider_unavailable`."""

    def __init__(
        self,
        provider: OidcProvider,
        hashes: LookupHashes,
        cells: Mapping[str, StaffCell],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._provider = provider
        self._hashes = hashes
        self._cells = cells
        self._now = now

    async def begin(self, to: str, key: str = "") -> tuple[str, str]:
        """Return where to send somebody, and what the browser keeps of it; `to` is the page that they want.

        `key` is the thumbprint of the key that the browser will show in the session.
        """
        state, secret = secrets.token_urlsafe(32), secrets.token_bytes(32)
        kept = {"state": state, "secret": b64encode(secret).decode(), "to": to, "key": key, "at": int(self._now())}
        return await self._provider.authorization_url(state, secret), json.dumps(kept)

    async def finish(self, kept: str | None, state: str, code: str, issuer: str) -> tuple[ConsoleSession, str, str]:
        """Return a new session of whoever comes back, the page that they wanted, and the key of their browser.

        Raises:
            DomainError: `login_failed`; `forbidden` for who is not on the roll of any cell that can be asked, or is
                there twice; `directory_unavailable`, `key_unavailable`.
        """
        begun = json.loads(kept) if kept is not None else {}
        is_ours = hmac.compare_digest(str(begun.get("state", "")).encode(), state.encode()) and bool(begun)
        is_late = self._now() > begun.get("at", 0) + SIGN_IN_WITHIN.total_seconds()
        if not is_ours or is_late or not 1 <= len(code) <= _CODE_CHARACTERS_MAX:
            raise DomainError(ErrorCode.LOGIN_FAILED)
        if issuer not in {"", self._provider.issuer}:  # RFC 9207
            raise DomainError(ErrorCode.LOGIN_FAILED)
        found = await self._provider.identity(code, state, b64decode(begun["secret"]))
        cell, member = await self._member(found, state)
        session_id = new_console_session_id(cell)
        session = await self._cells[cell].sessions.open(session_id, member.staff_id, member.roles)
        return session, begun["to"], begun.get("key", "")

    async def _member(self, found: ProviderIdentity, attempt: str) -> tuple[str, StaffMember]:
        """Look for somebody in every cell, by what the provider calls them and by a mail address that it vouches for.

        Where it also says which person an account is of, that has to be the same member of staff. A cell that is away
        hides its own staff and nobody else's. Whoever is two members of staff is none: two could agree with each other.
        """
        logins = [(LookupKind.LOGIN, provider_login(found.issuer, found.subject))]
        logins += [(LookupKind.MAIL, found.mail)] if found.mail else []
        members, away = await self._found(logins)
        known = members
        reason = "not_on_the_roll"
        if members and self._provider.names_persons:
            if not found.person:
                told = "the identity provider does not say which person this account is of"
                raise await self._refused(attempt, "person_not_said", told, known)
            person = provider_person(found.issuer, found.person)
            by_person, person_away = await self._found([(LookupKind.LOGIN, person)])
            away = away or person_away
            if by_person:
                members |= by_person
            else:
                members, reason = {}, "person_not_on_the_roll"
        if len(members) > 1:
            told = "on the roll of staff twice: an administrator has to disable one"
            raise await self._refused(attempt, "on_the_roll_twice", told, members)
        if members:
            return members.popitem()[1]
        if away is not None:
            raise away
        raise await self._refused(attempt, reason, "not on the roll of staff", known)

    async def _refused(
        self, attempt: str, reason: str, told: str, members: Mapping[str, tuple[str, StaffMember]]
    ) -> DomainError:
        """Return the refusal of a sign-in, written down for each member of staff whose login it was.

        It stands in any case, as that of a token does.
        """
        log.warning("console_sign_in_refused", reason=reason, staff_ids=sorted(members))
        for cell, member in members.values():
            try:
                await self._cells[cell].sessions.refuse(attempt, member.staff_id, member.roles, reason)
            except DomainError as error:
                log.warning("staff_refusal_not_noted", code=reason, error=error.code)
        return DomainError(ErrorCode.FORBIDDEN, told)

    async def _found(
        self, logins: Iterable[tuple[LookupKind, str]]
    ) -> tuple[dict[str, tuple[str, StaffMember]], DomainError | None]:
        """Return who has any of these logins, by id, with their cells, and why a cell could not be asked."""
        away: DomainError | None = None
        members: dict[str, tuple[str, StaffMember]] = {}
        for kind, login in logins:
            hashes = await self._hashes.every(kind, login)
            for name, cell in self._cells.items():
                try:
                    member = await cell.accounts.find(kind, hashes)
                except DomainError as error:
                    away = error
                    continue
                if member is not None:
                    members[member.staff_id] = name, member
        return members, away
