"""Serves what accounts go through, each cell's in its own namespace, under keys that last as long as they."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.common import VersioningBehavior
from temporalio.worker import Worker

from activities.claims import ClaimActivities
from activities.contact import ContactActivities
from activities.deletion import DeletionActivities
from activities.logins import LoginActivities
from activities.proofing import ProofingActivities
from activities.recovery import RecoveryActivities
from activities.registration import RegistrationActivities
from activities.rejudging import RejudgingActivities
from activities.unlocking import UnlockingActivities
from activities.unmasking import UnmaskingActivities
from domain.challenges import BotChallenge
from domain.contracts.rejudging import DecisionProcess
from domain.devices import DeviceIntelligence
from domain.mailing import Mailer
from domain.proofing import IdentityProofing
from domain.registration import RegistrationPolicy
from integrations.challenges.client import open_turnstile
from integrations.devices.client import open_fingerprint
from integrations.identity.delivering import EvidenceDelivery
from integrations.identity.opening import open_providers
from integrations.identity.policy import registration_policy
from integrations.identity_cell import KEYS, IdentityCell, document_claims, identity_pools, open_identity_cell
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.mailing import open_mailer
from integrations.postgres.account_locks import PostgresAccountLocks
from integrations.postgres.pool import Pool
from integrations.postgres.replays import PostgresReplays
from integrations.postgres.roles import UNMASKING
from integrations.postgres.unmasking_entries import PostgresUnmaskingEntries
from integrations.reaching import any_answers, reach_cells
from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry
from integrations.telemetry.vendor_metrics import VendorMetrics
from integrations.temporal.codec import keep_refreshed
from integrations.temporal.histories import Histories
from integrations.temporal.identity_decisions import IdentityDecisions
from integrations.temporal.logins import LOGIN_QUEUE
from integrations.temporal.registrations import IDENTITY_DEPLOYMENT, IDENTITY_QUEUE
from integrations.temporal.worker import Release, build_worker
from workers.identity_sweeps import (
    AGAIN_EVERY_S,
    FOLD_EVERY_S,
    FORGET_EVERY_S,
    begin_deletions,
    begin_deletions_again,
    begin_unstarted,
    deliver_waiting,
    fold_logins,
    forget_handled,
    sweep,
    tell_changes,
)
from workers.releases import drain, take_over
from workflows.assess_login import AssessLoginWorkflow
from workflows.break_glass import BreakGlassWorkflow
from workflows.delete_account import DeleteAccountWorkflow
from workflows.recover_account import RecoverAccountWorkflow
from workflows.register_voter import RegisterVoterWorkflow
from workflows.rejudge_decisions import RejudgeDecisionsWorkflow
from workflows.unlock_account import UnlockAccountWorkflow
from workflows.verify_identity import VerifyIdentityWorkflow

_ACTIVITIES_AT_ONCE = 50
# Each poll takes one task and waits until the server has written that: with two, of which the SDK keeps one for what it
# remembers, whoever was forgotten is served one at a time.
_POLLS = 10
_WORKFLOWS = [
    RegisterVoterWorkflow,
    VerifyIdentityWorkflow,
    RecoverAccountWorkflow,
    DeleteAccountWorkflow,
    BreakGlassWorkflow,
    RejudgeDecisionsWorkflow,
    UnlockAccountWorkflow,
]

log = structlog.get_logger()


async def run(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry, stopping: asyncio.Event) -> None:
    """Serve the queues `identity` and `login`; ready once this build is the current version where a cell answers.

    Processes of the auth API of the same build serve `login` too: what one that was killed had begun ends here.
    A cell that is away keeps only its own registrations waiting, and those whose claims lie there.
    """
    keys = open_keys(settings, *KEYS, waiting=telemetry.waiting)
    hashes = KeyedLookupHashes(keys)
    vendor_calls = VendorMetrics(telemetry.registry, telemetry.tracing.tracer)
    providers = await open_providers(settings, lifetime, vendor_calls)
    mailer = open_mailer(settings, telemetry.waiting)
    turnstile, fingerprint = settings.turnstile, settings.fingerprint
    challenges = (
        None if turnstile is None else await lifetime.enter_async_context(open_turnstile(turnstile, vendor_calls))
    )
    devices = (
        None if fingerprint is None else await lifetime.enter_async_context(open_fingerprint(fingerprint, vendor_calls))
    )
    policy = registration_policy(settings)
    pools = await identity_pools(settings, lifetime, waiting=telemetry.waiting)
    unmasking = await identity_pools(settings, lifetime, UNMASKING, waiting=telemetry.waiting)
    claims = ClaimActivities(document_claims(pools))
    release = Release(IDENTITY_DEPLOYMENT, settings.build)
    opened: dict[str, Client] = {}
    checks: dict[str, Callable[[], Awaitable[object]]] = {}

    async def open_cell(name: str, stack: AsyncExitStack) -> None:
        cell = await open_identity_cell(name, settings, keys, pools[name], telemetry)
        activities = [
            *registration_activities(cell, hashes, providers, mailer),
            *account_activities(cell, hashes, mailer, devices, settings.recovery_page),
            *_rejudging(cell),
            *_unmasking(unmasking[name], mailer, settings.data_protection_mail),
            *UnlockingActivities(PostgresAccountLocks(cell.pool)).all(),
        ]
        worker = await stack.enter_async_context(
            build_worker(
                cell.temporal,
                IDENTITY_QUEUE,
                release,
                workflows=_WORKFLOWS,
                activities=[*activities, *claims.all()],
                behaviour=VersioningBehavior.AUTO_UPGRADE,  # people take days
                max_concurrent_activities=_ACTIVITIES_AT_ONCE,
                max_concurrent_workflow_task_polls=_POLLS,
            )
        )
        await stack.enter_async_context(_login_worker(cell, release, hashes, devices, challenges))
        await take_over(cell.temporal, release, settings, stopping)
        for work in (keep_refreshed(cell.codec), *_sweeps(cell, policy, tuple(settings.cells), mailer)):
            stack.callback(asyncio.create_task(work).cancel)
        opened[name] = cell.temporal
        checks[name] = partial(_answers, cell, worker)

    await reach_cells(settings.cells, open_cell, lifetime)
    telemetry.readiness.add("cells", lambda: any_answers(checks.values()))
    telemetry.readiness.start()
    log.info("identity_worker_started", build=settings.build, providers=sorted(providers))
    await stopping.wait()
    await asyncio.gather(*(drain(client, release, settings.worker_drain_s) for client in opened.values()))


def _unmasking(pool: Pool, mailer: Mailer, data_protection: str) -> list[Callable[..., object]]:
    return UnmaskingActivities(PostgresUnmaskingEntries(pool), mailer, data_protection).all()


def registration_activities(
    cell: IdentityCell, hashes: KeyedLookupHashes, providers: Mapping[str, IdentityProofing], mailer: Mailer
) -> list[Callable[..., object]]:
    """Return what registrations of a cell do, but for claims, which lie in every cell."""
    return [
        *RegistrationActivities(cell.registrations, cell.accounts, cell.records, hashes).all(),
        *ContactActivities(cell.records, hashes, mailer).all(),
        *ProofingActivities(providers, hashes, cell.records).all(),
    ]


def _login_worker(
    cell: IdentityCell,
    release: Release,
    hashes: KeyedLookupHashes,
    devices: DeviceIntelligence | None,
    challenges: BotChallenge | None,
) -> Worker:
    activities = LoginActivities(
        cell.logins,
        cell.records,
        hashes,
        devices=devices,
        challenges=challenges,
    )
    return build_worker(
        cell.temporal, LOGIN_QUEUE, release, workflows=[AssessLoginWorkflow], activities=activities.all()
    )


def account_activities(
    cell: IdentityCell, hashes: KeyedLookupHashes, mailer: Mailer, devices: DeviceIntelligence | None, page: str
) -> list[Callable[..., object]]:
    """Return what recoveries and deletions of accounts of a cell do."""
    return [
        *RecoveryActivities(cell.recoveries, cell.records, hashes, mailer, page).all(),
        *DeletionActivities(
            cell.ends,
            cell.registrations,
            cell.processes,
            cell.records,
            hashes=hashes,
            sightings=cell.sightings,
            devices=devices,
        ).all(),
    ]


def _rejudging(cell: IdentityCell) -> list[Callable[..., object]]:
    histories = Histories(cell.temporal, cell.codec)
    return RejudgingActivities(
        {
            DecisionProcess.LOGIN: cell.logins,
            DecisionProcess.IDENTITY: IdentityDecisions(histories, histories.started),
        }
    ).all()


def _sweeps(
    cell: IdentityCell, policy: RegistrationPolicy, cells: tuple[str, ...], mailer: Mailer
) -> list[Coroutine[Any, Any, None]]:
    delivery = EvidenceDelivery(cell.registrations, cell.inbox, cell.processes, policy)
    return [
        sweep(cell.name, partial(deliver_waiting, cell.inbox, delivery)),
        sweep(cell.name, partial(begin_unstarted, cell.registrations, cell.processes, policy, cell.name, cells)),
        sweep(cell.name, partial(begin_deletions, cell.ends, cell.account_processes, cell.name, cells)),
        sweep(
            cell.name,
            partial(begin_deletions_again, cell.ends, cell.account_processes, cell.name, cells),
            every_s=AGAIN_EVERY_S,
        ),
        sweep(cell.name, partial(tell_changes, cell.notices, cell.records, mailer, cell.name)),
        sweep(cell.name, cell.notices.forget_older, every_s=FORGET_EVERY_S),
        sweep(cell.name, partial(forget_handled, cell.inbox), every_s=FORGET_EVERY_S),
        sweep(cell.name, partial(fold_logins, cell.logins), every_s=FOLD_EVERY_S),
        sweep(cell.name, cell.logins.purge, every_s=FORGET_EVERY_S),
        sweep(cell.name, cell.recoveries.forget_older, every_s=FORGET_EVERY_S),
        sweep(cell.name, PostgresReplays(cell.pool).forget_older, every_s=FORGET_EVERY_S),
        sweep(cell.name, cell.device_events.forget_older, every_s=FORGET_EVERY_S),
        sweep(cell.name, cell.ways.drop_abandoned, every_s=FORGET_EVERY_S),
    ]


async def _answers(cell: IdentityCell, worker: Worker) -> bool:
    return worker.is_running and await cell.pool.fetchval("SELECT true") is True
