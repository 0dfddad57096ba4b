"""The ports that registrations stand on, in memory, and what a provider of identity proofing can find."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from domain.accounts import Account, Claim, ClaimState, KeyedHash, LookupKind, PersonalData
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.mailing import Message, MessageKind
from domain.proofing import Document, ProofingFinding, ProofingState
from domain.registrations import Registration, RegistrationStage, StageNote
from domain.tokens import Assurance

CELLS = ("eu", "us")
BORN_ON = date(1990, 1, 2)


def found(state: ProofingState, **fields: Any) -> ProofingFinding:
    return ProofingFinding(state, **fields)


def approved(number: str, *, born_on: date = BORN_ON, **fields: Any) -> ProofingFinding:
    document = Document("DEU", "passport", number)
    return ProofingFinding(ProofingState.APPROVED, document=document, born_on=born_on, **fields)


WAITING = found(ProofingState.WAITING_FOR_PERSON)
IN_REVIEW = found(ProofingState.IN_REVIEW)
RETRY = found(ProofingState.RETRY, reasons=("unsatisfactory_photos",), advice="Take it in better light")
REJECTED = found(ProofingState.REJECTED, reasons=("forgery",), risk_labels=("selfie:manyattempts",))


class Rows:
    """Registrations in memory; an older note changes nothing."""

    def __init__(self) -> None:
        self.rows: dict[str, Registration] = {}
        self.stages: list[RegistrationStage] = []
        self.erased: list[tuple[str, int]] = []

    async def note(self, note: StageNote) -> None:
        before = self.rows[note.registration_id]
        if note.revision <= before.revision:
            return
        names = ("revision", "stage", "reasons", "staff_reasons", "case_no", "provider", "reference", "expires_at")
        self.rows[note.registration_id] = replace(before, **{name: getattr(note, name) for name in names})
        self.stages.append(note.stage)

    async def note_erased(self, registration_id: str, case_no: int) -> None:
        self.erased.append((registration_id, case_no))


class Directory:
    """Accounts and personal data in memory."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.lookups: dict[tuple[LookupKind, str, bytes], str] = {}
        self.data: dict[str, dict[str, str]] = {}
        self.destroyed: set[str] = set()

    async def open(self, voter_id: str, region: str, lookups: Mapping[LookupKind, Sequence[KeyedHash]]) -> bool:
        keys = [(kind, each.key_id, each.digest) for kind, hashes in lookups.items() for each in hashes]
        if any(self.lookups.get(key, voter_id) != voter_id for key in keys):
            return False
        if voter_id not in self.accounts:
            made = Account(voter_id, "eu", VoterStatus.REGISTERED, Assurance.NONE, region, 0, None, datetime.now(UTC))
            self.accounts[voter_id] = made
        self.lookups |= dict.fromkeys(keys, voter_id)
        return True

    async def get(self, voter_id: str) -> Any:
        return self.accounts.get(voter_id) if voter_id in self.accounts else None

    async def activate(self, voter_id: str, person_id: str, assurance: Assurance, age_class: int) -> bool:
        others = (each for each in self.accounts.values() if each.voter_id != voter_id)
        if any(each.person_id == person_id and each.status is not VoterStatus.CLOSED for each in others):
            return False
        self.accounts[voter_id] = replace(
            self.accounts[voter_id],
            status=VoterStatus.ACTIVE,
            person_id=person_id,
            assurance=assurance,
            age_class=age_class,
        )
        return True

    async def set_status(self, voter_id: str, status: VoterStatus, reason: str) -> None:
        assert reason
        self.accounts[voter_id] = replace(self.accounts[voter_id], status=status)
        if status is VoterStatus.CLOSED:
            self.lookups = {key: holder for key, holder in self.lookups.items() if holder != voter_id}


class Records:
    def __init__(self, directory: Directory) -> None:
        self._data, self._destroyed = directory.data, directory.destroyed

    async def put(self, voter_id: str, data: PersonalData) -> None:
        if voter_id in self._destroyed:
            raise DomainError(ErrorCode.KEY_DESTROYED)
        self._data.setdefault(voter_id, {}).update(data.fields)

    async def get(self, voter_id: str) -> PersonalData | None:
        return PersonalData(dict(self._data[voter_id])) if voter_id in self._data else None

    async def destroy(self, voter_id: str) -> None:
        self._data.pop(voter_id, None)
        self._destroyed.add(voter_id)


class Hashes:
    """Keyed hashes under every version in `versions`."""

    versions = ("k/1", "k/2")

    async def newest(self, kind: LookupKind, value: str) -> KeyedHash:
        return (await self.every(kind, value))[-1]

    async def every(self, kind: LookupKind, value: str) -> tuple[KeyedHash, ...]:
        return tuple(
            KeyedHash(version, hmac.digest(version.encode(), f"{kind}{value}".encode(), hashlib.sha256))
            for version in self.versions
        )

    async def document(self, document: Document) -> tuple[KeyedHash, ...]:
        return await self.every(LookupKind.DOCUMENT, f"{document.country}{document.kind}{document.number}")


@dataclass
class Held:
    person_id: str
    home_cell: str
    holder: str | None
    settled: bool = False


class Claims:
    """The claims of one cell, in memory."""

    def __init__(self) -> None:
        self.held: dict[bytes, Held] = {}
        self.is_away = False
        self.asked = 0

    async def claim(self, document: KeyedHash, person_id: str, home_cell: str, voter_id: str) -> Claim:
        self.asked += 1
        self._refuse()
        kept = self.held.setdefault(document.digest, Held(person_id, home_cell, voter_id))
        if kept.holder not in {None, voter_id}:
            return Claim(ClaimState.HELD, kept.person_id, kept.home_cell)
        if kept.home_cell != home_cell:
            return Claim(ClaimState.ELSEWHERE, kept.person_id, kept.home_cell)
        kept.holder = voter_id
        return Claim(ClaimState.GRANTED, kept.person_id, kept.home_cell)

    async def release(self, document: KeyedHash, voter_id: str) -> None:
        self._refuse()
        kept = self.held.get(document.digest)
        if kept is None or kept.holder != voter_id:
            return
        kept.holder = None
        if not kept.settled:
            del self.held[document.digest]

    async def release_all(self, voter_id: str) -> None:
        self.asked += 1
        self._refuse()
        for digest, kept in list(self.held.items()):
            if kept.holder == voter_id:
                kept.holder = None
                if not kept.settled:
                    del self.held[digest]

    async def settle(self, document: KeyedHash, voter_id: str) -> None:
        self._refuse()
        assert self.held[document.digest].holder == voter_id
        self.held[document.digest].settled = True

    def _refuse(self) -> None:
        if self.is_away:
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE, "away")


class Mail:
    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.failures: list[ErrorCode] = []

    async def send(self, message: Message) -> None:
        if self.failures:
            raise DomainError(self.failures.pop(0))
        self.sent.append(message)

    def of(self, kind: MessageKind) -> list[Message]:
        """The messages of a kind, each key once: a repeat is no second message."""
        return list({message.key: message for message in self.sent if message.kind is kind}.values())


class Provider:
    """Says what its script says, look by look, or fails as it says; the last line stays."""

    assurance = Assurance.SUBSTANTIAL

    def __init__(self) -> None:
        self.scripts: dict[str, list[ProofingFinding | ErrorCode]] = {}
        self.failures: list[ErrorCode] = []
        self.opened: list[str] = []
        self.looks = 0
        self.retries = 0
        self.erased: list[str] = []
        self.erase_failures: list[ErrorCode] = []
        self.confirms_when_asked = 2  # for the second time, after a pause

    async def open_case(self, case_id: str) -> str:
        self._fail()
        if case_id not in self.opened:
            self.opened.append(case_id)
            self.scripts.setdefault(case_id, [WAITING])
        return f"ref-{case_id}"

    async def read_case(self, reference: str) -> ProofingFinding:
        self._fail()
        self.looks += 1
        script = self.scripts[reference.removeprefix("ref-")]
        line = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(line, ErrorCode):
            raise DomainError(line)
        return line

    async def allow_retry(self, reference: str) -> None:
        self._fail()
        self.retries += 1

    async def erase(self, reference: str) -> bool:
        if self.erase_failures:
            raise DomainError(self.erase_failures.pop(0))
        self.erased.append(reference)
        return self.erased.count(reference) >= self.confirms_when_asked

    def _fail(self) -> None:
        if self.failures:
            raise DomainError(self.failures.pop(0))
