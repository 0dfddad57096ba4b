"""Accounts lost, regained and deleted over HTTP: real databases, Temporal and sandboxes of the vendors."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import Request
from starlette.types import Receive, Scope, Send
from temporalio.worker import Worker

from activities.claims import ClaimActivities
from activities.contact import ContactActivities
from activities.deletion import DeletionActivities
from activities.proofing import ProofingActivities
from activities.recovery import RecoveryActivities
from activities.registration import RegistrationActivities
from api.auth.account_routes import account_routes
from api.auth.cells import AuthCells
from api.auth.deletions import DeletionDesk
from api.auth.new_passwords import NewPasswords
from api.auth.recovery import RecoveryAsked, RecoveryDesk
from api.auth.sessions import SessionDesk
from api.http.application import create_application
from api.http.limits_opening import open_limits
from api.webhooks.app import create_app
from domain.account_ends import Deletion, DeletionStage
from domain.accounts import PersonalData
from domain.contracts.accounts import RecoverAccountInput
from domain.credentials import CredentialKind
from domain.eligibility import VoterStatus, nullifier
from domain.errors import DomainError, ErrorCode
from domain.ids import delete_account_workflow_id, new_deletion_id, new_session_id
from domain.mailing import MessageKind
from domain.sessions import EndReason, LoginMethod, NewSession
from domain.tokens import ACCESS_ISSUER, Assurance, Confirmation, RiskBand, VoterClaims
from integrations.challenges.client import open_turnstile
from integrations.devices.client import FingerprintDevices, open_fingerprint
from integrations.identity.opening import open_providers
from integrations.identity_cell import KEYS
from integrations.keys.access_tokens import VoterTokens
from integrations.keys.file_kms import open_keys
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.purposes import LIMITS
from integrations.login.breaches import open_breaches
from integrations.login.passkeys import PASSKEYS_MAX
from integrations.login.passwords import Passwords
from integrations.postgres.roles import IDENTITY
from integrations.sandboxes.mounting import mount, open_sandboxes
from integrations.sandboxes.serving import serve_sandboxes
from integrations.settings import BreachesSettings, PasskeySettings, Settings
from integrations.telemetry.metrics import DatabaseMetrics
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.accounts import TemporalAccounts
from integrations.temporal.worker import sandbox
from tests.api.auth.test_registration import CELLS, WITHIN_S, Town, number, open_town, vendors_of
from tests.audited import leaves
from tests.conftest import OwnerPool, SettingsFor
from tests.identity_world import IdentityWorld
from tests.integrations.login.authenticator import ORIGIN, RP_ID, Authenticator
from tests.limits_world import lonely_limits
from workers.identity_sweeps import begin_deletions, begin_deletions_again, tell_changes
from workflows.delete_account import DeleteAccountWorkflow
from workflows.recover_account import RecoverAccountWorkflow

PAGE = "https://vote.example.org/recover"
PASSWORD = "a long way to the polling station"


@dataclass
class Village:
    """A town whose people lose and delete their accounts."""

    town: Town
    client: httpx.AsyncClient
    desk: SessionDesk
    cells: AuthCells
    owner_pool: OwnerPool
    recovery_over: Callable[[Callable[[str | None], Any]], RecoveryDesk]

    async def voter(self, document: str = "", cell: str = "eu") -> tuple[str, str]:
        """Return a registration that has led to an active voter, and that voter."""
        ended = await self.town.proofed(cell, document or number())
        assert ended["stage"] == "active", ended
        registration = ended["registrationId"]
        return registration, (await self.town.row(registration)).voter_id

    async def log_in(self, voter: str) -> str:
        """Return the session of a login."""
        cell = voter.split("_")[1]
        session = NewSession(
            new_session_id(cell), voter, "k" * 43, LoginMethod.PASSKEY, Assurance.SUBSTANTIAL, RiskBand.LOW
        )
        await self.desk.open(session)
        return session.session_id

    async def mail_of(self, voter: str) -> str:
        data = await self.town.cells[voter.split("_")[1]].records.get(voter)
        assert data is not None
        return data.fields["mail"]

    async def ask(self, mail: str, *, profile: str = "clean_browser", **fields: Any) -> httpx.Response:
        """Ask for a link as somebody with a browser does."""
        asked = await self.asked(mail, profile)
        body = {
            "mail": asked.mail,
            "challengeToken": asked.challenge_token,
            "challengeNonce": asked.nonce,
            "deviceEventId": asked.device_event_id,
            **fields,
        }
        return await self.client.post("/v1/account/recovery", json=body)

    async def asked(self, mail: str, profile: str = "clean_browser") -> RecoveryAsked:
        """Return what a browser asks with."""
        nonce = secrets.token_hex(16)
        token = await self.town.control("turnstile", "tokens", action="recover", cdata=nonce)
        event = await self.town.control("fingerprint", "events", profile=profile, linkedId=nonce, readableAfterMs=0)
        return RecoveryAsked(mail, token["token"], nonce, event["eventId"], "127.0.0.1")

    async def link_to(self, mail: str, nth: int = 1) -> str:
        """Return the token of the n-th different link that an address got."""
        async with asyncio.timeout(WITHIN_S):
            while len(found := [m for m in self.town.mail.of(MessageKind.RECOVERY) if m.to == mail]) < nth:
                await asyncio.sleep(0.02)
        page, _, token = found[nth - 1].link.partition("#")
        assert page == PAGE
        return token

    async def told(self, kind: MessageKind, mail: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not [m for m in self.town.mail.of(kind) if m.to == mail]:
                await asyncio.sleep(0.02)

    async def delete(self, voter: str, session: str) -> httpx.Response:
        return await self.client.delete("/v1/account", headers={"as": f"{voter} {session}"})

    async def deleted(self, voter: str, session: str) -> dict[str, Any]:
        """Delete an account, and return the certificate."""
        begun = await self.delete(voter, session)
        assert begun.status_code == 202, begun.text
        async with asyncio.timeout(WITHIN_S):
            while True:
                answer = await self.client.get(f"/v1/account/deletions/{begun.json()['deletionId']}")
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                if found["stage"] == "completed":
                    return found
                await asyncio.sleep(0.05)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def said(request: Request) -> VoterClaims:
    """Believe who says which session it is: tokens and proofs are tested with sessions."""
    voter, session = request.headers["as"].split()
    return VoterClaims(
        iss=ACCESS_ISSUER,
        aud="voters",
        scope="voter",
        iat=0,
        exp=0,
        cnf=Confirmation("k" * 43),
        sub=voter,
        jti="j",
        sid=session,
        cell=voter.split("_")[1],
        region="DE",
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def village(
    settings_for: SettingsFor, identity_world: IdentityWorld, owner_pool: OwnerPool
) -> AsyncIterator[Village]:
    mounted: dict[str, Any] = {}

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await mounted["app"](scope, receive, send)

    async with AsyncExitStack() as lifetime:
        address = await lifetime.enter_async_context(serve_sandboxes(late))
        settings = settings_for(
            IDENTITY,
            **vendors_of(address),
            breaches=BreachesSettings(base_url=f"{address}/breaches", timeout_s=20),
            passkeys=PasskeySettings(rp_id=RP_ID, origins=(ORIGIN,)),
        )
        town = await open_town(settings, lifetime, address)
        hooks = create_app(town.intake, lonely_limits(), telemetry=make_telemetry(settings, "webhooks"))
        mounted["app"] = mount({**await open_sandboxes(settings, lifetime), "hooks": hooks})
        await town.vendor.put("/fingerprint/_control/limits", json={"perSecond": 10_000, "burst": 10_000})
        yield await settle(settings, town, lifetime, identity_world, owner_pool)


async def settle(
    settings: Settings, town: Town, lifetime: AsyncExitStack, identity_world: IdentityWorld, owner_pool: OwnerPool
) -> Village:
    keys, telemetry = open_keys(settings, *KEYS, LIMITS), make_telemetry(settings, "auth")
    hashes, queue = KeyedLookupHashes(keys), f"accounts-{secrets.token_hex(4)}"
    cells = AuthCells(settings, keys, database=DatabaseMetrics(telemetry.registry))
    await cells.open(lifetime)
    desk = SessionDesk(cells, VoterTokens(identity_world.tokens.signers[0]))
    assert settings.turnstile is not None
    assert settings.fingerprint is not None
    assert settings.breaches is not None
    challenges = await lifetime.enter_async_context(open_turnstile(settings.turnstile))
    devices = await lifetime.enter_async_context(open_fingerprint(settings.fingerprint))
    passwords = NewPasswords(Passwords(), await lifetime.enter_async_context(open_breaches(settings.breaches)))
    providers = await open_providers(settings, lifetime)
    for name, cell in town.cells.items():
        processes = TemporalAccounts(cell.temporal, name, queue=queue, patience_s=20)
        town.cells[name] = replace(cell, account_processes=processes)
        await lifetime.enter_async_context(worker_of(town, name, queue, hashes, providers, devices))

    def cell_of(name: str | None) -> Any:
        return town.cells[name or ""]

    def recovery_over(reached: Callable[[str | None], Any]) -> RecoveryDesk:
        return RecoveryDesk(
            CELLS,
            cells,
            reached,
            hashes=hashes,
            challenges=challenges,
            devices=devices,
            sessions=desk,
            passwords=passwords,
        )

    app = create_application("auth", telemetry)
    limits = await open_limits(settings, keys, lifetime, telemetry)
    app.include_router(account_routes(recovery_over(cell_of), DeletionDesk(CELLS, cells, cell_of), said, limits, CELLS))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://auth"))
    return Village(town, client, desk, cells, owner_pool, recovery_over)


def worker_of(
    town: Town, name: str, queue: str, hashes: KeyedLookupHashes, providers: Any, devices: FingerprintDevices
) -> Worker:
    cell = town.cells[name]
    return Worker(
        cell.temporal,
        task_queue=queue,
        workflows=[RecoverAccountWorkflow, DeleteAccountWorkflow],
        activities=[
            *RegistrationActivities(cell.registrations, cell.accounts, cell.records, hashes).all(),
            *ContactActivities(cell.records, hashes, town.mail).all(),
            *ProofingActivities(providers, hashes, cell.records).all(),
            *ClaimActivities(town.claims).all(),
            *RecoveryActivities(cell.recoveries, cell.records, hashes, town.mail, PAGE).all(),
            *DeletionActivities(
                cell.ends,
                cell.registrations,
                cell.processes,
                cell.records,
                hashes=hashes,
                sightings=cell.sightings,
                devices=devices,
            ).all(),
        ],
        workflow_runner=sandbox(),
    )


async def test_who_deletes_the_account_and_registers_again_cannot_vote_twice(village: Village) -> None:
    document, town = number(), village.town
    registration, voter = await village.voter(document)
    session, mail = await village.log_in(voter), await village.mail_of(voter)
    await village.cells.of("eu").credentials.put(voter, CredentialKind.PASSWORD, b"hash")
    before = await town.cells["eu"].accounts.get(voter)
    reference = (await town.row(registration)).reference
    gone = await town.vendor.delete(f"/sumsub/_control/applicants/{reference}")  # as agreed with the vendor
    assert gone.status_code == 204, gone.text
    async with leaves(await village.owner_pool("eu"), "auth DELETE /v1/account"):
        certificate = await village.deleted(voter, session)
    assert {name: count for name, count in certificate.items() if isinstance(count, int)} == {
        "sessionsEnded": 1,
        "casesErased": 1,
        "devicesErased": 1,
        "credentialsRemoved": 1,
    }
    after = await town.cells["eu"].accounts.get(voter)
    assert after is not None
    assert after.status is VoterStatus.CLOSED
    assert await town.cells["eu"].records.get(voter) is None
    await village.told(MessageKind.DELETED, mail)
    second_registration, second = await village.voter(document)
    again = await town.cells["eu"].accounts.get(second)
    assert before is not None
    assert again is not None
    assert second != voter
    assert second_registration != registration
    assert again.person_id == before.person_id is not None
    key = secrets.token_bytes(32)  # of any survey
    assert nullifier(key, str(again.person_id)) == nullifier(key, str(before.person_id))


async def test_a_deletion_needs_a_login_of_this_moment_and_there_is_one(village: Village) -> None:
    registration, voter = await village.voter()
    session = await village.log_in(voter)
    owner = await village.owner_pool("eu")
    older = "UPDATE identity.session SET created_at = created_at - interval '16 min' WHERE session_id = $1"
    await owner.execute(older, session)
    assert code_of(await village.delete(voter, session)) == (403, "step_up_required")
    _, stranger = await village.voter()
    assert code_of(await village.delete(stranger, session)) == (403, "step_up_required")
    reference = (await village.town.row(registration)).reference
    await village.town.vendor.delete(f"/sumsub/_control/applicants/{reference}")
    sessions = [await village.log_in(voter) for _ in range(3)]
    answers = await asyncio.gather(*(village.delete(voter, each) for each in sessions))
    begun = [answer.json()["deletionId"] for answer in answers if answer.status_code == 202]
    assert len(set(begun)) == 1
    for wrong in ("d_eu_" + "a" * 26, "x"):
        assert code_of(await village.client.get(f"/v1/account/deletions/{wrong}")) == (404, "deletion_not_found")


async def test_a_deletion_whose_begin_was_lost_is_begun_later(village: Village) -> None:
    registration, voter = await village.voter()
    reference = (await village.town.row(registration)).reference
    await village.town.vendor.delete(f"/sumsub/_control/applicants/{reference}")
    cell = village.town.cells["eu"]
    wished = await cell.ends.request(new_deletion_id("eu"), voter)
    assert await begin_deletions(cell.ends, cell.account_processes, "eu", CELLS, older_than=timedelta(0)) >= 1
    async with asyncio.timeout(WITHIN_S):
        while (found := await cell.ends.get(wished.deletion_id)) is None or found.completed_at is None:
            await asyncio.sleep(0.05)


async def test_a_deletion_whose_execution_was_terminated_is_begun_again(village: Village) -> None:
    registration, voter = await village.voter()
    session, cell = await village.log_in(voter), village.town.cells["eu"]
    deletion = (await village.delete(voter, session)).json()["deletionId"]
    handle = cell.temporal.get_workflow_handle(delete_account_workflow_id("eu", deletion))
    async with asyncio.timeout(WITHIN_S):  # it waits for the provider, which has not erased the case
        while (found := await cell.ends.get(deletion)) is None or found.stage is not DeletionStage.STOPPED:
            await asyncio.sleep(0.05)

    async def unfinished(before: datetime, after: str, limit: int) -> list[Deletion]:
        return [each for each in [await cell.ends.get(deletion)] if each is not None and not after and limit]

    own: Any = SimpleNamespace(unfinished=unfinished)  # other tests' deletions are theirs
    run = (await handle.describe()).run_id
    assert await begin_deletions_again(own, cell.account_processes, "eu", CELLS) == 1
    assert (await handle.describe()).run_id == run  # it goes on as it is
    await handle.terminate("by an operator")
    reference = (await village.town.row(registration)).reference
    await village.town.vendor.delete(f"/sumsub/_control/applicants/{reference}")
    assert await begin_deletions_again(own, cell.account_processes, "eu", CELLS) == 1
    async with asyncio.timeout(WITHIN_S):
        while (found := await cell.ends.get(deletion)) is None or found.completed_at is None:
            await asyncio.sleep(0.05)
    assert (await handle.describe()).run_id != run
    assert (found.sessions_ended, found.cases_erased) == (1, 1)


async def test_a_change_is_told_to_the_address_of_the_registration(village: Village) -> None:
    _, voter = await village.voter()
    mail, cell = await village.mail_of(voter), village.town.cells["eu"]
    await cell.credentials.put(voter, CredentialKind.PASSWORD, b"hash", notice=MessageKind.PASSWORD_CHANGED)
    async with asyncio.timeout(WITHIN_S):  # others' may come first
        while not [m for m in village.town.mail.of(MessageKind.PASSWORD_CHANGED) if m.to == mail]:
            await tell_changes(cell.notices, cell.records, village.town.mail, "eu")
            await asyncio.sleep(0.02)
    rows = "SELECT count(*) FROM identity.account_notice WHERE voter_id = $1"
    assert await cell.pool.fetchval(rows, voter) == 0


async def test_a_link_replaces_the_password_and_ends_every_session(village: Village) -> None:
    _, voter = await village.voter(cell="us")
    mail, session = await village.mail_of(voter), await village.log_in(voter)
    assert (await village.ask(mail)).status_code == 202
    token = await village.link_to(mail)
    assert token.startswith("rk_us_")
    short = await village.client.post(f"/v1/account/recovery/{token}", json={"password": "short"})
    assert code_of(short) == (422, "password_not_accepted")
    async with leaves(await village.owner_pool("us"), "auth POST /v1/account/recovery/{token}"):
        done = await village.client.post(f"/v1/account/recovery/{token}", json={"password": PASSWORD})
    assert done.status_code == 204, done.text
    (kept,) = await village.cells.of("us").credentials.of(voter, CredentialKind.PASSWORD)
    assert (await Passwords().check(PASSWORD, kept.secret)).right
    owner = await village.owner_pool("us")
    reason = await owner.fetchval("SELECT end_reason FROM identity.session WHERE session_id = $1", session)
    assert reason == EndReason.RECOVERED
    assert session in village.cells.revoked
    await village.told(MessageKind.RECOVERED, mail)
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    for bad in (token, forged, "rk_us_short", "rk_xx_" + "a" * 43, "x"):
        answer = await village.client.post(f"/v1/account/recovery/{bad}", json={"password": PASSWORD})
        assert code_of(answer) == (410, "recovery_link_invalid"), bad


async def test_a_second_link_makes_the_first_worthless_and_takes_a_passkey(village: Village) -> None:
    _, voter = await village.voter()
    mail = await village.mail_of(voter)
    assert (await village.ask(mail)).status_code == 202
    first = await village.link_to(mail)
    assert (await village.ask(mail.upper())).status_code == 202
    second = await village.link_to(mail, 2)
    answer = await village.client.post(f"/v1/account/recovery/{first}", json={"password": PASSWORD})
    assert code_of(answer) == (410, "recovery_link_invalid")
    cell = village.town.cells["eu"]
    sealed = await cell.records.seal(voter, PersonalData({"passkey_id": "AAAA", "passkey_key": "AAAA"}))
    for _ in range(PASSKEYS_MAX):  # as a thief adds who wants to be the only one
        await cell.credentials.put(voter, CredentialKind.PASSKEY, sealed, handle=secrets.token_bytes(32))
    options = (await village.client.post(f"/v1/account/recovery/{second}/passkey-options")).json()["options"]
    assert not options.get("excludeCredentials")
    passkey = Authenticator().register(options)
    done = await village.client.post(f"/v1/account/recovery/{second}", json={"passkey": passkey})
    assert done.status_code == 204, done.text
    assert len(await village.cells.of("eu").credentials.of(voter, CredentialKind.PASSKEY)) == 1
    late = await village.client.post(f"/v1/account/recovery/{second}/passkey-options")
    assert code_of(late) == (410, "recovery_link_invalid")


async def test_whether_an_address_has_an_account_does_not_show(village: Village) -> None:
    _, voter = await village.voter()
    known, unknown = await village.mail_of(voter), f"{secrets.token_hex(4)}@example.org"
    answers = [await village.ask(mail) for mail in (known, unknown)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, '{"asked":true}')}
    await village.link_to(known)
    assert not [message for message in village.town.mail.sent if message.to == unknown]


@dataclass
class Begun:
    """All that a request can reach of a cell: requests that are begun there."""

    requests: list[RecoverAccountInput] = field(default_factory=list)
    is_away: bool = False

    async def recover(self, request: RecoverAccountInput) -> None:
        if self.is_away:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE)
        self.requests.append(request)


async def test_asking_looks_nothing_up_and_asks_every_cell_that_is_there(village: Village) -> None:
    begun = {name: Begun() for name in CELLS}
    asks = village.recovery_over(lambda name: SimpleNamespace(account_processes=begun[name or ""]))
    await asks.ask(await village.asked(f"{secrets.token_hex(4)}@example.org"))
    assert [[request.cell for request in begun[name].requests] for name in CELLS] == [["eu"], ["us"]]
    assert len({begun[name].requests[0].mail for name in CELLS}) == 1
    begun["eu"].is_away = True
    await asks.ask(await village.asked(f"{secrets.token_hex(4)}@example.org"))
    assert [len(begun[name].requests) for name in CELLS] == [1, 2]
    begun["us"].is_away = True
    with pytest.raises(DomainError) as failure:
        await asks.ask(await village.asked(f"{secrets.token_hex(4)}@example.org"))
    assert failure.value.code is ErrorCode.WORKFLOWS_UNAVAILABLE


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"challengeToken": "made up"}, 403, "challenge_failed"),
        ({"challengeNonce": "another nonce, another"}, 403, "challenge_failed"),
        ({"deviceEventId": "1700000000000.made1p"}, 422, "device_event_invalid"),
        ({"profile": "bot"}, 403, "device_refused"),
        ({"mail": "no address"}, 400, "malformed_request"),
    ],
    ids=["no token", "token of another request", "no event", "bot", "no address"],
)
async def test_who_shows_no_person_gets_no_link(
    village: Village, change: dict[str, Any], status: int, code: str
) -> None:
    fields = dict(change)
    mail = fields.pop("mail", f"{secrets.token_hex(4)}@example.org")
    assert code_of(await village.ask(mail, **fields)) == (status, code)


async def test_a_device_event_asks_for_one_link(village: Village) -> None:
    mail = f"{secrets.token_hex(4)}@example.org"
    asked = await village.asked(mail)
    shown = {
        "challengeToken": asked.challenge_token,
        "challengeNonce": asked.nonce,
        "deviceEventId": asked.device_event_id,
    }
    assert (await village.ask(mail, **shown)).status_code == 202
    assert code_of(await village.ask(mail, **shown)) == (422, "device_event_invalid")


@pytest.mark.parametrize("body", [{}, {"password": PASSWORD, "passkey": {}}, {"password": ""}, {"passkey": None}])
async def test_a_link_takes_one_thing_to_log_in_with(village: Village, body: dict[str, Any]) -> None:
    answer = await village.client.post("/v1/account/recovery/rk_eu_" + "a" * 43, json=body)
    assert code_of(answer) == (400, "malformed_request")
