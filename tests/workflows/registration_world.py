"""Everything around `RegisterVoter` and `VerifyIdentity` that a test can hold up, cut off or make say no."""

import asyncio
import hashlib
import hmac
import json
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, Worker

from activities.claims import ClaimActivities
from activities.contact import ContactActivities
from activities.proofing import ProofingActivities
from activities.registration import RegistrationActivities
from domain.accounts import Account, Claim, ClaimState, KeyedHash, LookupKind, PersonalData
from domain.contracts.registration import (
    HashedValue,
    RegisteredVoter,
    RegisterVoterInput,
    RegistrationRules,
    RegistrationState,
    TriedCode,
    VerifyIdentityInput,
)
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import (
    new_registration_id,
    new_voter_id,
    proofing_case_id,
    register_voter_workflow_id,
    verify_identity_workflow_id,
)
from domain.mailing import Message, MessageKind
from domain.proofing import Document, ProofingFinding, ProofingState
from domain.registration import ADVICE_FIELD, MAIL_FIELD, code_value
from domain.registrations import Registration, RegistrationStage, StageNote
from domain.tokens import Assurance
from integrations.temporal.worker import sandbox
from tests.workflows.hooked import Hook, hooked_worker
from tests.workflows.survey_world import HISTORIES, RECORD, without_traces
from workflows.register_voter import RegisterVoterWorkflow
from workflows.registry import WORKFLOWS as EVERY
from workflows.verify_identity import VerifyIdentityWorkflow

CELLS = ("eu", "us")
BORN_ON = date(1990, 1, 2)
WORKFLOWS = [RegisterVoterWorkflow, VerifyIdentityWorkflow]


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


class Registering:
    """One registration and all around it; several may share `claims` and `directory`."""

    def __init__(
        self,
        client: Client,
        cell: str = "eu",
        *,
        claims: dict[str, Claims] | None = None,
        directory: Directory | None = None,
        mail: str = "",
        minimum_age: int = 16,
    ) -> None:
        self.client, self.cell = client, cell
        self.registration_id, self.voter_id = new_registration_id(cell), new_voter_id(cell)
        self.rows, self.mail, self.provider, self.hashes = Rows(), Mail(), Provider(), Hashes()
        self.directory = directory or Directory()
        self.claims = claims or {name: Claims() for name in CELLS}
        self.queue = f"identity-{secrets.token_hex(4)}"
        self.steps: list[str] = []
        self.after: Hook | None = None
        self.minimum_age = minimum_age
        self.rows.rows[self.registration_id] = Registration(
            self.registration_id, self.voter_id, "DE", datetime.now(UTC)
        )
        self.address = mail or f"{secrets.token_hex(4)}@example.org"
        self.directory.data[self.voter_id] = {MAIL_FIELD: self.address}

    @property
    def row(self) -> Registration:
        return self.rows.rows[self.registration_id]

    @property
    def account(self) -> Account | None:
        return self.directory.accounts.get(self.voter_id)

    @property
    def handle(self) -> WorkflowHandle[RegisterVoterWorkflow, RegisteredVoter]:
        return self.client.get_workflow_handle_for(
            RegisterVoterWorkflow.run, register_voter_workflow_id(self.cell, self.registration_id)
        )

    def case(self, case_no: int = 1) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(verify_identity_workflow_id(self.cell, self.registration_id, case_no))

    def script(self, *findings: ProofingFinding | ErrorCode, case_no: int = 1) -> None:
        self.provider.scripts[proofing_case_id(self.registration_id, case_no)] = list(findings)

    @property
    def rules(self) -> RegistrationRules:
        return RegistrationRules(version=1, minimum_age=self.minimum_age, provider="fake")

    async def start(self) -> WorkflowHandle[RegisterVoterWorkflow, RegisteredVoter]:
        return await self.client.start_workflow(
            RegisterVoterWorkflow.run,
            RegisterVoterInput(
                registration_id=self.registration_id,
                voter_id=self.voter_id,
                cell=self.cell,
                cells=CELLS,
                region="DE",
                rules=self.rules,
            ),
            id=self.handle.id,
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
        )

    async def recheck(self) -> Any:
        """Begin the run that a webhook begins after everything has ended."""
        return await self.client.start_workflow(
            VerifyIdentityWorkflow.run,
            VerifyIdentityInput(
                registration_id=self.registration_id,
                voter_id=self.voter_id,
                cell=self.cell,
                cells=CELLS,
                rules=self.rules,
                case_no=self.row.case_no,
                revision=self.row.revision,
                replaces=self.row.reference,
                recheck=True,
                local_first=True,
            ),
            id=self.case(self.row.case_no).id,
            task_queue=self.queue,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal="evidence_received",
        )

    async def tried(self, code: str) -> TriedCode:
        hashes = await self.hashes.every(LookupKind.CODE, code_value(self.registration_id, code))
        return TriedCode(hashes=tuple(HashedValue(key_id=each.key_id, digest=each.digest) for each in hashes))

    async def prove(self, code: str = "") -> RegistrationState:
        """Prove the address with a code, the one from the last mail unless another is given."""
        await happens(lambda: bool(self.mail.of(MessageKind.PROVE_CONTACT)))
        code = code or self.mail.of(MessageKind.PROVE_CONTACT)[-1].code
        return await self.handle.execute_update(
            RegisterVoterWorkflow.prove_contact, await self.tried(code), id=f"prove-{code}-{secrets.token_hex(2)}"
        )

    async def proved(self) -> None:
        """Prove the address as soon as the process knows which code it sent."""
        while (await self.handle.query(RegisterVoterWorkflow.stage)).stage is RegistrationStage.CONTACT_PROOF:
            try:
                await self.prove()
            except Exception as error:
                if "code_wrong" not in repr(getattr(error.__cause__, "type", "")):
                    raise
                await asyncio.sleep(0.02)

    async def hint(self, case_no: int = 1) -> None:
        await self.case(case_no).signal(VerifyIdentityWorkflow.evidence_received)

    def worker(self, **options: Any) -> Worker:
        providers: Any = {"fake": self.provider}
        directory: Any = self.directory
        rows: Any = self.rows
        records = Records(self.directory)
        activities = [
            *RegistrationActivities(rows, directory, records, self.hashes).all(),
            *ContactActivities(records, self.hashes, self.mail).all(),
            *ProofingActivities(providers, self.hashes, records).all(),
            *ClaimActivities(self.claims).all(),
        ]
        return hooked_worker(self, WORKFLOWS, activities, **options)

    async def replayed(self, name: str = "", cases: int = 1) -> None:
        """Replay what happened; keep it where that was asked for and there is nothing of this name."""
        await replayed(self.handle, name and f"register-voter-{name}")
        for number in range(1, cases + 1):
            suffix = f"-{number}" if cases > 1 else ""
            await replayed(self.case(number), name and f"verify-identity-local-{name}{suffix}")

    @property
    def claimed(self) -> list[Held]:
        return [held for cell in self.claims.values() for held in cell.held.values()]

    @property
    def counted(self) -> Counter[str]:
        return Counter(self.steps)

    def advice(self) -> str:
        return self.directory.data.get(self.voter_id, {}).get(ADVICE_FIELD, "")


async def replayed(handle: WorkflowHandle[Any, Any], name: str = "") -> None:
    history = await handle.fetch_history()
    replayer = Replayer(workflows=list(EVERY), data_converter=pydantic_data_converter, workflow_runner=sandbox())
    await replayer.replay_workflow(history)
    if name and os.environ.get(RECORD) and not (HISTORIES / f"{name}.json").exists():
        events = without_traces(json.loads(history.to_json()))
        (HISTORIES / f"{name}.json").write_text(json.dumps(events, indent=1, sort_keys=True) + "\n")


@asynccontextmanager
async def registering(client: Client, cell: str = "eu", **fields: Any) -> AsyncIterator[Registering]:
    world = Registering(client, cell, **fields)
    async with asyncio.timeout(120), world.worker():
        yield world


async def happens(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.02)
