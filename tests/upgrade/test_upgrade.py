"""From the stored release to this one, process by process and under load: what the old one began, the new one ends."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError
from temporalio.client import WorkflowExecutionStatus, WorkflowHistory
from temporalio.worker import Replayer

from comitia.stack.addresses import DATABASES
from comitia.stack.applications import API, VOTING_WORKER
from comitia.stack.source import present_source
from comitia.stack.state import CATALOGUE, CELLS, PLATFORM
from comitia.stack.supervisor import Supervisor
from domain.account_ends import DeletionStage
from domain.ids import run_survey_workflow_id
from integrations.keys.purposes import in_flight
from integrations.postgres.ledger_audit import LOCK_SPACE
from integrations.postgres.migrate import Tree, heads, migrate
from integrations.postgres.roles import OWNER
from integrations.settings import Environment
from integrations.temporal.client import data_converter
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.worker import Release as BuildRelease
from integrations.temporal.worker import open_executions, sandbox
from integrations.voting_cell import DEPLOYMENT
from tests.end_to_end.account_owner import AccountOwner
from tests.end_to_end.house import House, OpenSurvey, eventually, open_house
from tests.end_to_end.test_certificate import certification, reached
from tests.faults.load import Load
from tests.faults.steady import Steady
from tests.upgrade.release import Release, unpack, without_coverage
from tests.upgrade.unfinished import Unfinished, unfinished
from tests.voting_world import voting_keys
from workflows.registry import WORKFLOWS

pytestmark = pytest.mark.long

DRAINED_WITHIN_S = 60  # once the last login is decided
MIGRATIONS_TRIED = 5  # one that waits for a lock gives up after 2 s and is run again


@dataclass
class Upgrade:
    """A house that runs the old release, and the new one beside it, of which nothing runs yet."""

    house: House
    old: Release
    new: Supervisor
    lifetime: AsyncExitStack
    histories: dict[str, list[WorkflowHistory]] = field(default_factory=dict)  # of the old release, by namespace

    async def migrate(self, *, finish: bool = False) -> None:
        """Bring every database to our newest revision, as `comitia migrate` does; `finish` when the old one is gone."""
        for name in DATABASES:
            tree = Tree.CATALOGUE if name == CATALOGUE else Tree.CELL
            reached = await asyncio.to_thread(self._migrate, name, tree, finish=finish)
            assert (reached,) == heads(tree)

    def _migrate(self, name: str, tree: Tree, *, finish: bool) -> str:
        state = self.house.state
        for left in reversed(range(MIGRATIONS_TRIED)):
            try:
                return migrate(state.database(name), SecretStr(state.password(OWNER)), tree, finish=finish)
            except OperationalError:
                if not left:
                    raise
        raise AssertionError

    async def bring(self, *names: str) -> None:
        """Start processes of the new release."""
        await asyncio.gather(*(self.new.start(name) for name in names))

    async def lead_to(self, service: str) -> None:
        """Lead clients to the new process of a service, as a balancer does."""
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
        client = httpx.AsyncClient(base_url=self.new.url(service), timeout=30, limits=limits, trust_env=False)
        self.house.clients[service] = await self.lifetime.enter_async_context(client)

    async def retire(self, name: str, *, grace_s: float = 0, within_s: float = 0) -> None:
        """Stop a process of the old release in order, `within_s` or as usual; in `grace_s` where it may be killed."""
        process = self.house.supervisor.processes[name]
        process.grace_s = grace_s or within_s or process.grace_s
        await process.stop()
        assert await process.wait() in ({0, -signal.SIGKILL} if grace_s else {0}), name

    async def drained(self) -> bool:
        """Tell whether no open batch needs the old release any more."""
        build = BuildRelease(DEPLOYMENT, self.old.source.build)
        return not any([await open_executions(self.house.temporal[cell], build) for cell in CELLS])

    async def keep_histories(self, namespace: str, ids: Iterable[str]) -> None:
        """Remember histories that the old release alone has written."""
        handles = [self.house.temporal[namespace].get_workflow_handle(execution) for execution in ids]
        self.histories[namespace] = [await handle.fetch_history() for handle in handles]

    async def replay(self) -> None:
        """Replay by our code what the old release has written."""
        settings = self.house.state.settings_for(environment=Environment.TEST)
        for namespace, histories in self.histories.items():
            codec = EncryptionCodec(voting_keys(settings), in_flight(namespace))
            replayer = Replayer(
                workflows=list(WORKFLOWS), data_converter=data_converter(codec), workflow_runner=sandbox()
            )
            for history in histories:
                await replayer.replay_workflow(history)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def upgrade() -> AsyncIterator[Upgrade]:
    with (
        tempfile.TemporaryDirectory(prefix="comitia-old-") as code,
        tempfile.TemporaryDirectory(prefix="comitia-upgrade-") as data,
    ):
        old = unpack(Path(code))
        async with AsyncExitStack() as lifetime:
            with pytest.MonkeyPatch.context() as patch:
                for name in os.environ.keys() - without_coverage(os.environ).keys():
                    patch.delenv(name)
                house = await lifetime.enter_async_context(
                    open_house(
                        Path(data),
                        migrations=old.migrate,
                        applications=old.applications,
                        source=old.source,
                        vendors=True,
                    )
                )
            assert house.sandboxes is not None
            new = Supervisor(house.state, environment=Environment.TEST, more=house.sandboxes.variables)
            lifetime.push_async_callback(new.__aexit__)
            yield Upgrade(house, old, new, lifetime)


async def test_everything_that_the_release_before_began_goes_on(upgrade: Upgrade) -> None:
    house = upgrade.house
    survey = await house.open_survey(title="Over two releases")
    steady = Steady(house, survey)
    async with steady.running():
        await steady.more_votes(20)
        people = await upgrade.lifetime.enter_async_context(unfinished(house))
        await upgrade.migrate()
        steady.voters += [(await house.voter(cell))[1] for cell in CELLS for _ in range(20)]
        await steady.more_votes(20)  # the old release on the new schema
        assert not steady.failures, steady.failures

        await leave_histories(upgrade, steady)
        steady.cells = ("eu",)  # what waits for the other cell's ledger would make everybody wait there
        held = await house.open_survey(title="Held back")
        ended = await house.open_survey(title="Ended by the one, certified by the other")
        waiting = Load.of(house, held, 1, ["us"])
        async with (
            unreconciled(house, ended, "us"),
            house.locked_ledger(held, "us"),
            half_deleted(house, "us") as deletion,
        ):
            await waiting.run()
            assert waiting.accepted, waiting.statuses()  # durable, unrecorded, and the old release's to do
            assert not await house.participations(held)

            await upgrade.bring(VOTING_WORKER.name)
            await upgrade.bring("workers-platform")
            await upgrade.retire("workers-platform")
            await upgrade.retire("workers-tally")
            await steady.more_votes(20)  # announced by the old release and folded by nobody
            await upgrade.bring("workers-tally", *(application.name for application in API))
            for application in [each for each in API if each in upgrade.old.applications]:
                await upgrade.lead_to(application.service)
                await steady.more_votes(5)
                await upgrade.retire(application.name, grace_s=2 if application.service == "votes" else 0)
            for name in ("workers-reconciliation", "workers-certification", "workers-audit"):
                await upgrade.bring(name)
                await upgrade.retire(name)
            await replace_identity(upgrade, people)
            assert not await upgrade.drained()
            assert (await certification(house, ended))["stage"] in {"draining", "reconciling"}
        await eventually(upgrade.drained, what="the old release's batches are done")
        await upgrade.retire(VOTING_WORKER.name)
        await upgrade.bring(*upgrade.new.processes.keys() - upgrade.new.pids.keys())  # what the old one did not have
        steady.cells = CELLS
        await upgrade.migrate(finish=True)
        await steady.more_votes(20)

    house.supervisor = upgrade.new
    assert not steady.failures, (steady.failures, steady.repeated)
    await waiting.confirmed()
    await waiting.insist()
    await house.settled(held, len(waiting.tokens))
    await house.finish(survey)
    await steady.all_recorded_once()
    await reached(house, ended, "certified")
    await asyncio.gather(deleted_to(house, DeletionStage.COMPLETED, deletion), people.finish())
    await upgrade.replay()
    for each in (survey, ended):
        await goes_on(house, each)


async def replace_identity(upgrade: Upgrade, people: Unfinished) -> None:
    """See that the old worker stays for a login that its build began, and goes once that is decided."""
    await upgrade.bring("workers-identity")
    leaving = asyncio.create_task(upgrade.retire("workers-identity", within_s=DRAINED_WITHIN_S))
    assert not (await asyncio.wait({leaving}, timeout=2))[0]
    await people.step_up()
    await leaving


@asynccontextmanager
async def unreconciled(house: House, survey: OpenSurvey, cell: str) -> AsyncIterator[None]:
    """End a survey, and keep its certification from going on: its rows are being read by another pass, say."""
    async with house.owners[cell].acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", LOCK_SPACE, survey.id)
        await house.finish(survey)
        yield


@asynccontextmanager
async def half_deleted(house: House, cell: str) -> AsyncIterator[str]:
    """Have an account deleted, and keep that from its last step: nobody writes of keys of personal data meanwhile."""
    voter_id, _ = await house.voter(cell)
    owner = await AccountOwner.logged_in(house, voter_id, cell)
    async with house.owners[cell].acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE identity.personal_key IN EXCLUSIVE MODE")
        deletion = await owner.delete_account()
        await deleted_to(house, DeletionStage.CLOSED, deletion)
        yield deletion
        await deleted_to(house, DeletionStage.CLOSED, deletion)


async def deleted_to(house: House, stage: DeletionStage, deletion: str) -> None:
    """Wait until a deletion has come so far, and no further."""

    async def there() -> bool:
        answer = await house.clients["auth"].get(f"/v1/account/deletions/{deletion}")
        return bool(answer.raise_for_status().json()["stage"] == stage)

    await eventually(there, what=f"the deletion is {stage}")


async def leave_histories(upgrade: Upgrade, steady: Steady) -> None:
    """Remember what the old release has written: of batches, and of the life of an open survey."""
    house = upgrade.house
    for cell in CELLS:
        own = [execution.id async for execution in house.temporal[cell].list_workflows("WorkflowType = 'SubmitVotes'")]
        assert own
        await upgrade.keep_histories(cell, own[:20])
    await upgrade.keep_histories(PLATFORM, [run_survey_workflow_id(steady.survey.id)])


async def goes_on(house: House, survey: OpenSurvey) -> None:
    """See that no task of the survey's life fails under the code that took it over."""
    handle = house.temporal[PLATFORM].get_workflow_handle(run_survey_workflow_id(survey.id))

    async def quiet() -> bool:
        found = await handle.describe()
        assert found.status in {WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.RUNNING}, found.status
        pending = found.raw_description.pending_workflow_task
        assert pending.attempt < 3, pending
        return found.status is WorkflowExecutionStatus.COMPLETED or not pending.attempt

    await eventually(quiet, what="the life of the survey goes on")


def test_the_stored_release_is_not_this_code(upgrade: Upgrade) -> None:
    assert upgrade.old.source.build != present_source().build
    assert upgrade.house.supervisor.processes[VOTING_WORKER.name].folder in {None, upgrade.old.folder}
