"""Accounts of voters: contact addresses by keyed hash, personal data under a key of their own, one claim per document.

A voter id is made when a registration begins and stays the subject of everything that follows: personal data, sessions
and devices. The person comes with identity proofing and outlives the account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from domain.eligibility import VoterStatus
from domain.proofing import Document
from domain.tokens import Assurance


class LookupKind(StrEnum):
    """What an account is found by; each kind is hashed apart."""

    MAIL = "mail"
    PHONE = "phone"
    LOGIN = "login"  # issuer and subject of an identity provider
    DEVICE = "device"
    FEATURE = "feature"  # of a login: its network, its client; counted, and never led back
    DOCUMENT = "document"
    CODE = "code"  # sent to prove a contact address; hashed with what it was sent for, and kept as nothing else


@dataclass(frozen=True, slots=True)
class KeyedHash:
    """32 bytes of HMAC-SHA-256 under a version of a key, and that version's id."""

    key_id: str
    digest: bytes


class LookupHashes(Protocol):
    """Keyed hashes for finding what is kept encrypted, under every live version of the key.

    What has to be unique is written under every version: two processes of which one does not know the newest yet still
    meet at an older one. Values are brought into their canonical form first (`domain/canonical.py`).
    All calls raise DomainError `key_unavailable`, or `malformed_request` for what cannot be such a value.
    """

    async def newest(self, kind: LookupKind, value: str) -> KeyedHash:
        """Return the hash under the newest version, for what need not be unique."""
        ...

    async def every(self, kind: LookupKind, value: str) -> tuple[KeyedHash, ...]:
        """Return the hashes to look for, and to write where they must be unique, oldest key first."""
        ...

    async def document(self, document: Document) -> tuple[KeyedHash, ...]:
        """Return the hashes of a document under every live version, oldest key first; all of them are claimed."""
        ...


def claiming_cell(digest: bytes, cells: Sequence[str]) -> str:
    """Return the cell in which a document's claim lives: by the hash, over the cells' names in order.

    The list of cells of a deployment is part of where claims are: it only grows with a move of the claims.
    """
    return sorted(cells)[int.from_bytes(digest[:8], "big") % len(cells)]


class ClaimState(StrEnum):
    """What came of asking for a claim."""

    GRANTED = "granted"
    HELD = "held"  # an open account of the same person holds it
    ELSEWHERE = "elsewhere"  # the person's home is another cell


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim as it stands: whose it is, where the person is at home, and who holds it now."""

    state: ClaimState
    person_id: str
    home_cell: str


class DocumentClaims(Protocol):
    """The claims that live in one cell; the unique constraint on the hash decides, whoever asks at once.

    All calls raise DomainError `directory_unavailable`.
    """

    async def claim(self, document: KeyedHash, person_id: str, home_cell: str, voter_id: str) -> Claim:
        """Claim a document for a voter. Safe to repeat: the holder is granted it again.

        Without a claim one is made for `person_id`, at home in `home_cell`. A claim that nobody holds names the person
        whom this voter is: it is granted with that person's id where the home cell is the same, else `ELSEWHERE`.
        """
        ...

    async def release(self, document: KeyedHash, voter_id: str) -> None:
        """Let go of a claim; the person stays named. Safe to repeat, and no-op for who does not hold it.

        A claim that never led to an account (`settle` was not called) is removed whole.
        """
        ...

    async def release_all(self, voter_id: str) -> None:
        """Let go of every claim that a voter holds here, as `release` does. Safe to repeat."""
        ...

    async def settle(self, document: KeyedHash, voter_id: str) -> None:
        """Note that the claim has led to an account: from now on it names the person for good. Safe to repeat.

        Raises:
            DomainError: `claim_contradicted`; this voter does not hold it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the directory has it; `person_id` once proofed."""

    voter_id: str
    cell: str
    status: VoterStatus
    assurance: Assurance
    region: str
    age_class: int
    person_id: str | None
    created_at: datetime


class Accounts(Protocol):
    """The accounts of one cell. All calls raise DomainError `directory_unavailable`."""

    async def open(self, voter_id: str, region: str, lookups: Mapping[LookupKind, Sequence[KeyedHash]]) -> bool:
        """Add a registered voter found by these hashes; False where an open account has one of them.

        Give every hash of a value (`LookupHashes.every`). Safe to repeat with the same voter id.

        Raises:
            DomainError: `voter_not_active`; the account is closed.
        """
        ...

    async def find(self, kind: LookupKind, hashes: Sequence[KeyedHash]) -> Account | None:
        """Return the open account that one of these hashes leads to, or None."""
        ...

    async def get(self, voter_id: str) -> Account | None:
        """Return an account in any state, or None."""
        ...

    async def activate(self, voter_id: str, person_id: str, assurance: Assurance, age_class: int) -> bool:
        """Make a registered voter an active one who is this person; False where the person has another open account.

        Safe to repeat.

        Raises:
            DomainError: `voter_not_found`, `voter_not_active` (closed), or `claim_contradicted`: the account is
                another person's.
        """
        ...

    async def set_status(self, voter_id: str, status: VoterStatus, reason: str) -> None:
        """Suspend, reactivate or close an account; `closed` is for good and frees its look-ups. Safe to repeat.

        `reason` is a code (lower case, digits, `_`), kept with the change.

        Raises:
            DomainError: `voter_not_found`, `voter_not_active` (closed), or `voter_not_verified`: only who was proofed
                can be active, and stays no more `registered`.
        """
        ...

    async def add_lookup(self, voter_id: str, kind: LookupKind, value: Sequence[KeyedHash]) -> bool:
        """Let an account be found by another value, given by every hash; False where another open account has it.

        Safe to repeat. Raises DomainError `voter_not_found` or `voter_not_active` (closed).
        """
        ...

    async def remove_lookups(self, voter_id: str, kind: LookupKind, kept: Sequence[KeyedHash] = ()) -> None:
        """Let an account no more be found by values of a kind, but for those kept. Safe to repeat."""
        ...


class AccountLocks(Protocol):
    """What keeps voters of one cell out of their accounts. Calls raise DomainError `directory_unavailable`."""

    async def unlock(self, voter_id: str, action_id: str) -> None:
        """Let the voter try every credential at once, and have failures until now count against no login.

        Safe to repeat, and once for each action.

        Raises:
            DomainError: `voter_not_found`; `case_stage` for an account that nobody may log in to, and where it was
                done `UNLOCKS_MAX` times in `UNLOCKS_WITHIN`.
        """
        ...

    async def reinstate(self, voter_id: str, action_id: str) -> None:
        """Make a suspended account active again. Safe to repeat, and once for each action.

        Raises:
            DomainError: `voter_not_found`; `case_stage` where it is not suspended, is being deleted, or was never a
                proofed person's.
        """
        ...


@dataclass(frozen=True, slots=True)
class PersonalData:
    """What is known of somebody, by field name; never in a history, a log or an id."""

    fields: Mapping[str, str] = field(repr=False)


class PersonalRecords(Protocol):
    """Personal data of one cell's voters, each under a data key of its own, wrapped under `kek/personal`.

    All calls raise DomainError `directory_unavailable` or `key_unavailable`.
    """

    async def put(self, voter_id: str, data: PersonalData) -> None:
        """Add or replace fields. Safe to repeat.

        Raises:
            DomainError: `key_destroyed` after `destroy`; `payload_too_large` over 16 KiB of fields.
        """
        ...

    async def get(self, voter_id: str) -> PersonalData | None:
        """Return every field, or None where there is none or its key is destroyed."""
        ...

    async def destroy(self, voter_id: str) -> None:
        """Destroy the voter's key, and with it every copy of the data, backups included. Safe to repeat."""
        ...


class VoterSeals(Protocol):
    """Seals secrets under a voter's own data key for keeping elsewhere: they end with that key.

    All calls raise DomainError `directory_unavailable` or `key_unavailable`.
    """

    async def seal(self, voter_id: str, data: PersonalData, data_key: bytes | None = None) -> bytes:
        """Return fields sealed. Raises DomainError `key_destroyed`, `payload_too_large`.

        `data_key` is the voter's, wrapped, where it was read a moment ago: it is not read again then.
        """
        ...

    async def unseal(self, voter_id: str, sealed: bytes, data_key: bytes | None = None) -> PersonalData | None:
        """Return what was sealed for this voter, or None where the key is destroyed; `data_key` as in `seal`."""
        ...
