"""The first proof of a login: a password, a code by mail, a passkey, or an identity provider's word.

A secret is looked at here and goes no further: what comes after knows that it was good.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from api.auth.cells import AuthCell, AuthCells
from api.auth.login_accounts import AccountFinder
from domain.accounts import Account, LookupKind
from domain.breaches import BreachedPasswords
from domain.contracts.login import CredentialLeak
from domain.credentials import CredentialKind, may_try
from domain.errors import DomainError, ErrorCode
from domain.federation import ProviderIdentity, Transaction, cell_of_state
from domain.logins import VENDOR_WITHIN_S
from domain.sessions import MAY_LOG_IN, LoginMethod
from integrations.login.oidc import OidcLogins
from integrations.login.passkeys import challenge_in
from integrations.login.passwords import Passwords

_NOBODY: Final = "nobody"


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody wants to be let in for; which fields are there depends on the method."""

    method: LoginMethod
    jkt: str
    nonce: str = field(repr=False)
    cell: str | None = None
    mail: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    code: str = field(default="", repr=False)
    passkey: dict[str, Any] = field(default_factory=dict, repr=False)
    state: str = field(default="", repr=False)
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of an offer: whose account it is about, as far as that is known, and whether it was good.

    `failure` says why some cell could not be asked: one that is not good may then be good there.
    """

    account: Account | None
    good: bool
    leak: CredentialLeak = CredentialLeak.NOT_APPLICABLE
    identity: ProviderIdentity | None = None
    failure: BaseException | None = None


class PasswordFactor:
    """Passwords of voters in their cells; a row of failures makes even the right one wait."""

    def __init__(self, passwords: Passwords) -> None:
        self._passwords = passwords

    async def check(self, cell: AuthCell | None, voter_id: str, password: str) -> bool:
        """Tell whether a password is right; without a cell, an account or a password of it it takes as long."""
        kept = await cell.credentials.of(voter_id, CredentialKind.PASSWORD) if cell is not None else []
        found = await self._passwords.check(password, kept[0].secret if kept else None)
        if cell is None or not kept or not may_try(kept[0], datetime.now(UTC)):
            return False
        if not found.right:
            await cell.credentials.failed(kept[0])
            return False
        if found.rehashed is not None:
            await cell.credentials.rehash(kept[0], found.rehashed)
        return await cell.credentials.succeeded(kept[0], 0)


class LoginProofs:
    """Checks offers by their method. Calls raise DomainError for what is away: a cell, a key, a provider."""

    def __init__(
        self,
        cells: AuthCells,
        names: Sequence[str],
        *,
        accounts: AccountFinder,
        passwords: PasswordFactor,
        providers: OidcLogins,
        breaches: BreachedPasswords | None,
    ) -> None:
        self._cells = cells
        self._names = tuple(names)
        self._accounts = accounts
        self._passwords = passwords
        self._providers = providers
        self._breaches = breaches

    async def check(self, offer: Offer) -> Proof:
        """Return what an offer comes to; an account that may not log in makes it no good."""
        checks = {
            LoginMethod.PASSWORD: self._password,
            LoginMethod.MAIL_CODE: self._mail_code,
            LoginMethod.PASSKEY: self._passkey,
            LoginMethod.OIDC: self._oidc,
        }
        proof = await checks[offer.method](offer)
        if proof.account is None or proof.account.status not in MAY_LOG_IN:
            return replace(proof, good=False)
        return proof

    async def _password(self, offer: Offer) -> Proof:
        found = await self._accounts.look(LookupKind.MAIL, offer.mail, offer.cell)
        account = found.account
        cell = None if account is None else self._cells.of(account.cell)
        voter_id = _NOBODY if account is None else account.voter_id
        right, leak = await asyncio.gather(
            self._passwords.check(cell, voter_id, offer.password), self._leak(offer.password)
        )
        return Proof(account, right, leak, failure=found.failure)

    async def _leak(self, password: str) -> CredentialLeak:
        if self._breaches is None:
            return CredentialLeak.ABSENT
        try:
            async with asyncio.timeout(VENDOR_WITHIN_S):
                seen = await self._breaches.times_seen(password)
        except TimeoutError:
            return CredentialLeak.ABSENT
        except DomainError as error:
            if error.code is not ErrorCode.BREACHES_UNAVAILABLE:
                raise
            return CredentialLeak.ABSENT
        return CredentialLeak.LEAKED if seen else CredentialLeak.NONE

    async def _mail_code(self, offer: Offer) -> Proof:
        found = await self._accounts.look(LookupKind.MAIL, offer.mail, offer.cell)
        account = found.account
        if account is None and found.failure is not None:  # the first cell may be the one that is away
            return Proof(None, good=False, failure=found.failure)
        cell = self._cells.of(offer.cell or self._names[0] if account is None else account.cell)
        voter_id = _NOBODY if account is None else account.voter_id
        good = await cell.sent_codes.redeem(code_subject(voter_id, offer.nonce), offer.code)
        return Proof(account, good, failure=found.failure)

    async def _passkey(self, offer: Offer) -> Proof:
        """A challenge is of one cell, and the passkey that answers it may be of another."""
        asked = self._cells.of(cell_of_state(challenge_in(offer.passkey)) or self._names[0]).passkeys
        begun = None if asked is None else await asked.taken(offer.passkey)
        failure = None
        for name in self._names if begun is not None else ():
            try:
                account = await self._passkey_in(name, offer, begun)
            except DomainError as error:
                failure = error
                continue
            if account is not None:
                return Proof(account, good=True)
        return Proof(None, good=False, failure=failure)

    async def _passkey_in(self, name: str, offer: Offer, begun: Transaction | None) -> Account | None:
        """Return the account of a cell whose passkey answers what was begun, or None."""
        cell = self._cells.of(name)
        voter_id = None if cell.passkeys is None else await cell.passkeys.answered(offer.passkey, begun)
        return None if voter_id is None else await cell.accounts.get(voter_id)

    async def _oidc(self, offer: Offer) -> Proof:
        transactions = self._cells.of(cell_of_state(offer.state) or self._names[0]).transactions
        try:
            identity = await self._providers.finish(
                transactions, offer.jkt, state=offer.state, code=offer.code, issuer=offer.issuer
            )
        except DomainError as error:
            if error.code is not ErrorCode.LOGIN_FAILED:
                raise
            return Proof(None, good=False)
        account = await self._accounts.find(LookupKind.LOGIN, identity.login, offer.cell)
        return Proof(account, account is not None, identity=identity)


def code_subject(voter_id: str, nonce: str) -> str:
    """Return what a code is kept for: a voter, and the nonce of who asked for it, who alone may use it."""
    return f"login/{voter_id}/{hashlib.sha256(nonce.encode()).hexdigest()[:32]}"
