"""What is known of a password, and who is looked for, before a login is judged."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from api.auth.login_accounts import AccountFinder, Found
from api.auth.login_proofs import LoginProofs, Offer
from domain.accounts import Account, LookupKind
from domain.contracts.login import CredentialLeak
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.sessions import LoginMethod
from domain.tokens import Assurance
from tests.workflows.registration_ports import Hashes

CELLS = ("eu", "us")


class Breaches:
    """Says how often a password was seen, or fails."""

    def __init__(self, seen: int | Exception) -> None:
        self._seen = seen

    async def times_seen(self, _password: str) -> int:
        if isinstance(self._seen, Exception):
            raise self._seen
        return self._seen


class Nobody:
    async def look(self, *_: Any) -> Found:
        return Found(None)

    async def check(self, *_: Any) -> bool:
        return False


@pytest.mark.parametrize(
    ("breaches", "leak"),
    [
        (None, CredentialLeak.ABSENT),
        (Breaches(TimeoutError()), CredentialLeak.ABSENT),
        (Breaches(DomainError(ErrorCode.BREACHES_UNAVAILABLE)), CredentialLeak.ABSENT),
        (Breaches(0), CredentialLeak.NONE),
        (Breaches(3), CredentialLeak.LEAKED),
    ],
    ids=["not set up", "too slow", "away", "not seen", "seen"],
)
async def test_a_password_that_nobody_could_ask_about_is_not_one_that_was_never_seen(
    breaches: Breaches | None, leak: CredentialLeak
) -> None:
    nobody: Any = Nobody()
    proofs = LoginProofs(nobody, CELLS, accounts=nobody, passwords=nobody, providers=nobody, breaches=breaches)
    offer = Offer(LoginMethod.PASSWORD, "k" * 43, "n" * 16, mail="a@example.org", password="a password")
    assert (await proofs.check(offer)).leak is leak


@pytest.mark.parametrize("version", range(len(Hashes.versions)))
async def test_an_account_is_found_by_what_was_hashed_under_any_version_of_the_key(version: int) -> None:
    hashes = Hashes()
    account = Account("v_eu_a", "eu", VoterStatus.ACTIVE, Assurance.HIGH, "DE", 18, None, datetime.now(UTC))
    kept = (await hashes.every(LookupKind.MAIL, "a@example.org"))[version]

    async def find(_kind: LookupKind, wanted: Any) -> Account | None:
        return account if kept in wanted else None

    cells: Any = SimpleNamespace(of=lambda _: SimpleNamespace(accounts=SimpleNamespace(find=find)))
    assert await AccountFinder(cells, CELLS, hashes).find(LookupKind.MAIL, "a@example.org") is account
