"""Everything around `DeleteAccount` and `RecoverAccount` that a test can hold up, cut off or make say no."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.claims import ClaimActivities
from activities.contact import ContactActivities
from activities.deletion import DeletionActivities
from activities.proofing import ProofingActivities
from activities.recovery import RecoveryActivities
from activities.registration import RegistrationActivities
from domain.account_ends import DEVICES_FIELD, Deletion, DeletionStage
from domain.accounts import Account, KeyedHash, LookupKind, claiming_cell
from domain.contracts.accounts import DeleteAccountInput, DeletedAccount, RecoverAccountInput, RecoveredAccount
from domain.contracts.registration import hashed_values
from domain.device_sightings import DeviceCorrelation
from domain.eligibility import VoterStatus
from domain.errors import DomainError, ErrorCode
from domain.ids import (
    delete_account_workflow_id,
    new_deletion_id,
    new_recovery_id,
    new_registration_id,
    new_voter_id,
    recover_account_workflow_id,
)
from domain.mailing import MessageKind
from domain.proofing import Document
from domain.recovery import Recoverable, recovery_token_hash
from domain.registration import MAIL_FIELD
from domain.registrations import ProofingCase, Registration, RegistrationStage
from domain.tokens import Assurance
from tests.workflows.hooked import Hook, hooked_worker, live_with_a_death
from tests.workflows.registration_ports import CELLS, Claims, Directory, Hashes, Held, Mail, Provider, Records, Rows
from tests.workflows.registration_world import replayed
from workflows.delete_account import DeleteAccountWorkflow
from workflows.recover_account import RecoverAccountWorkflow

PAGE = "https://vote.example.org/recover"
PERSON = "p_aaaaaaaaaaaaaaaaaaaaaaaaaa"
PASSPORT = Document("DEU", "passport", "P1")


class Ends:
    """Deletions in memory; each step does what it does once."""

    def __init__(self, directory: Directory, deletion_id: str, voter_id: str) -> None:
        self._directory = directory
        self.row = Deletion(deletion_id, voter_id, DeletionStage.REQUESTED, datetime.now(UTC))
        self.stages: list[DeletionStage] = []

    async def stop(self, deletion_id: str) -> None:
        self._move(DeletionStage.REQUESTED, DeletionStage.STOPPED, VoterStatus.SUSPENDED, sessions_ended=2)

    async def close(self, deletion_id: str) -> None:
        self._move(DeletionStage.STOPPED, DeletionStage.CLOSED, VoterStatus.CLOSED, credentials_removed=3)

    async def note_devices_erased(self, deletion_id: str, devices: int) -> None:
        self.row = replace(self.row, devices_erased=max(devices, self.row.devices_erased))

    async def complete(self, deletion_id: str, devices_erased: int) -> Deletion:
        if self.row.stage is not DeletionStage.COMPLETED:
            assert self.row.voter_id in self._directory.destroyed
            erased = max(devices_erased, self.row.devices_erased)
            fields = {"completed_at": datetime.now(UTC), "devices_erased": erased, "cases_erased": 1}
            self._move(DeletionStage.CLOSED, DeletionStage.COMPLETED, VoterStatus.CLOSED, **fields)
        return self.row

    def _move(self, before: DeletionStage, after: DeletionStage, status: VoterStatus, **fields: Any) -> None:
        if self.row.stage is before:
            self.row = replace(self.row, stage=after, **fields)
            self.stages.append(after)
            account = self._directory.accounts[self.row.voter_id]
            self._directory.accounts[self.row.voter_id] = replace(account, status=status)


class Cancels:
    """The registration that the voter came from: over, unless `lasts` says for how many looks it is not."""

    def __init__(self, rows: "Cases") -> None:
        self._rows = rows
        self.lasts = 0

    async def cancel(self, registration_id: str) -> None:
        if self.lasts == 0:
            raise DomainError(ErrorCode.REGISTRATION_STAGE, "it has ended")
        self.lasts -= 1
        if self.lasts == 0:
            row = self._rows.rows[registration_id]
            self._rows.rows[registration_id] = replace(row, stage=RegistrationStage.CANCELLED)


class Cases(Rows):
    """A registration with one case."""

    def __init__(self, voter_id: str) -> None:
        super().__init__()
        self.registration_id = new_registration_id("eu")
        self.rows[self.registration_id] = Registration(
            self.registration_id, voter_id, "DE", datetime.now(UTC), RegistrationStage.ACTIVE, case_no=1
        )

    def open(self) -> None:
        """Let the registration be where people do something."""
        row = self.rows[self.registration_id]
        self.rows[self.registration_id] = replace(row, stage=RegistrationStage.PROOFING)

    async def get(self, registration_id: str) -> Registration | None:
        return self.rows.get(registration_id)

    async def of_voter(self, voter_id: str) -> Registration | None:
        return next((row for row in self.rows.values() if row.voter_id == voter_id), None)

    async def cases_of(self, voter_id: str) -> tuple[ProofingCase, ...]:
        erased = (self.registration_id, 1) in self.erased
        return (ProofingCase(self.registration_id, 1, "fake", "ref-1", erased),)


class Devices:
    """The vendor of device checks."""

    def __init__(self) -> None:
        self.erased: list[str] = []
        self.failures: list[ErrorCode] = []

    async def event(self, event_id: str) -> Any:
        raise AssertionError(event_id)

    async def erase(self, device_id: str) -> None:
        if self.failures:
            raise DomainError(self.failures.pop(0))
        self.erased.append(device_id)


class Sightings:
    """Says of one device that others use it too."""

    def __init__(self, hashes: Hashes, shared: str) -> None:
        self._hashes, self._shared = hashes, shared

    async def correlate(self, device: Sequence[KeyedHash], voter_id: str, since: datetime) -> DeviceCorrelation:
        shared = await self._hashes.every(LookupKind.DEVICE, self._shared)
        return DeviceCorrelation(2, 1, ("v_eu_other",)) if tuple(device) == shared else DeviceCorrelation(1, 1)


class Links:
    """Links in memory."""

    def __init__(self) -> None:
        self.accounts: dict[bytes, Recoverable] = {}
        self.kept: dict[str, bytes] = {}
        self.used: set[str] = set()
        self.cancelled: set[str] = set()
        self.failures: list[ErrorCode] = []

    async def find(self, mail: Sequence[KeyedHash]) -> Recoverable | None:
        if self.failures:
            raise DomainError(self.failures.pop(0))
        return next((self.accounts[each.digest] for each in mail if each.digest in self.accounts), None)

    async def begin(self, request_id: str, voter_id: str, token: str, asked_at: datetime) -> None:
        self.kept.setdefault(request_id, recovery_token_hash(token))

    async def cancel(self, request_id: str) -> None:
        self.cancelled.add(request_id)

    async def is_used(self, request_id: str) -> bool:
        return request_id in self.used


class AccountWorld:
    """One account and all around it."""

    def __init__(self, client: Client) -> None:
        self.client, self.cell = client, "eu"
        self.voter_id, self.deletion_id = new_voter_id("eu"), new_deletion_id("eu")
        self.request_id = new_recovery_id("eu")
        self.directory, self.mail, self.provider, self.hashes = Directory(), Mail(), Provider(), Hashes()
        self.claims = {name: Claims() for name in CELLS}
        self.rows, self.links, self.devices = Cases(self.voter_id), Links(), Devices()
        self.ends = Ends(self.directory, self.deletion_id, self.voter_id)
        self.processes = Cancels(self.rows)
        self.queue = f"identity-{secrets.token_hex(4)}"
        self.steps: list[str] = []
        self.after: Hook | None = None
        self.address = f"{secrets.token_hex(4)}@example.org"
        self.directory.data[self.voter_id] = {MAIL_FIELD: self.address, DEVICES_FIELD: "own shared"}
        self.directory.accounts[self.voter_id] = Account(
            self.voter_id, "eu", VoterStatus.ACTIVE, Assurance.SUBSTANTIAL, "DE", 18, PERSON, datetime.now(UTC)
        )

    @property
    def account(self) -> Account:
        return self.directory.accounts[self.voter_id]

    async def claim(self) -> None:
        """Claim the voter's document as registration does."""
        for each in await self.hashes.document(PASSPORT):
            held = Held(PERSON, "eu", self.voter_id, settled=True)
            self.claims[claiming_cell(each.digest, CELLS)].held[each.digest] = held

    async def known(self, *, at_provider: bool = False) -> None:
        """Let the address lead to the account."""
        found = Recoverable(self.voter_id, at_provider)
        for each in await self.hashes.every(LookupKind.MAIL, self.address):
            self.links.accounts[each.digest] = found

    async def delete(self) -> WorkflowHandle[DeleteAccountWorkflow, DeletedAccount]:
        request = DeleteAccountInput(deletion_id=self.deletion_id, voter_id=self.voter_id, cell=self.cell, cells=CELLS)
        return await self.client.start_workflow(
            DeleteAccountWorkflow.run,
            request,
            id=delete_account_workflow_id(self.cell, self.deletion_id),
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
        )

    async def recover(self) -> WorkflowHandle[RecoverAccountWorkflow, RecoveredAccount]:
        hashes = await self.hashes.every(LookupKind.MAIL, self.address)
        request = RecoverAccountInput(
            request_id=self.request_id,
            cell=self.cell,
            mail=hashed_values(hashes),
        )
        return await self.client.start_workflow(
            RecoverAccountWorkflow.run,
            request,
            id=recover_account_workflow_id(self.cell, self.request_id),
            task_queue=self.queue,
            task_timeout=timedelta(seconds=3),
        )

    def worker(self, **options: Any) -> Worker:
        providers: Any = {"fake": self.provider}
        rows: Any = self.rows
        fakes: Any = {name: getattr(self, name) for name in ("directory", "ends", "links", "claims")}
        records, sightings = Records(self.directory), Sightings(self.hashes, "shared")
        given: Any = sightings
        activities = [
            *RegistrationActivities(rows, fakes["directory"], records, self.hashes).all(),
            *ContactActivities(records, self.hashes, self.mail).all(),
            *ProofingActivities(providers, self.hashes, records).all(),
            *ClaimActivities(fakes["claims"]).all(),
            *RecoveryActivities(fakes["links"], records, self.hashes, self.mail, PAGE).all(),
            *DeletionActivities(
                fakes["ends"], rows, self.processes, records, hashes=self.hashes, sightings=given, devices=self.devices
            ).all(),
        ]
        return hooked_worker(self, [DeleteAccountWorkflow, RecoverAccountWorkflow], activities, **options)

    @property
    def held(self) -> list[Held]:
        return [held for cell in self.claims.values() for held in cell.held.values()]

    def links_sent(self) -> list[str]:
        """Every different link that was sent."""
        return sorted({message.link for message in self.mail.sent if message.kind is MessageKind.RECOVERY})


@asynccontextmanager
async def accounts(client: Client) -> AsyncIterator[AccountWorld]:
    world = AccountWorld(client)
    await world.claim()
    async with asyncio.timeout(60), world.worker():
        yield world


async def killed_after(
    client: Client, step: int, live: Callable[[AccountWorld], Any], prepare: Callable[[AccountWorld], Any]
) -> tuple[AccountWorld, str]:
    """Live through it with a worker that dies as `live_with_a_death` says; return after which activity, too."""
    world = AccountWorld(client)
    await prepare(world)
    return world, await live_with_a_death(world, step, live(world))


async def kept(handle: WorkflowHandle[Any, Any], name: str) -> None:
    """Replay what happened; keep it where that was asked for and there is nothing of this name."""
    await replayed(handle, name)
