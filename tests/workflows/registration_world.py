"""Everything around `RegisterVoter` and `VerifyIdentity` that a test can hold up, cut off or make say no."""

import asyncio
import json
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, Worker

from activities.claims import ClaimActivities
from activities.contact import ContactActivities
from activities.proofing import ProofingActivities
from activities.registration import RegistrationActivities
from domain.accounts import Account, LookupKind
from domain.contracts.registration import (
    HashedValue,
    RegisteredVoter,
    RegisterVoterInput,
    RegistrationRules,
    RegistrationState,
    TriedCode,
    VerifyIdentityInput,
)
from domain.errors import ErrorCode
from domain.ids import (
    new_registration_id,
    new_voter_id,
    proofing_case_id,
    register_voter_workflow_id,
    verify_identity_workflow_id,
)
from domain.mailing import MessageKind
from domain.proofing import ProofingFinding
from domain.registration import ADVICE_FIELD, MAIL_FIELD, code_value
from domain.registrations import Registration, RegistrationStage
from integrations.temporal.worker import sandbox
from tests.workflows.hooked import Hook, hooked_worker
from tests.workflows.registration_ports import CELLS, Claims, Directory, Hashes, Held, Mail, Provider, Records, Rows
from tests.workflows.stored import HISTORIES, RECORD, without_traces
from workflows.register_voter import RegisterVoterWorkflow
from workflows.registry import WORKFLOWS as EVERY
from workflows.verify_identity import VerifyIdentityWorkflow

WORKFLOWS = [RegisterVoterWorkflow, VerifyIdentityWorkflow]


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
