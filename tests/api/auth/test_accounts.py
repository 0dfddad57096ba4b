"""Accounts lost, regained and deleted over HTTP: real databases, Temporal and sandboxes of the vendors."""

import asyncio
import logging
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from domain.account_ends import Deletion, DeletionStage
from domain.accounts import PersonalData
from domain.contracts.accounts import RecoverAccountInput
from domain.credentials import CredentialKind
from domain.eligibility import VoterStatus, nullifier
from domain.errors import DomainError, ErrorCode
from domain.ids import delete_account_workflow_id, new_deletion_id, recover_account_workflow_id
from domain.mailing import MessageKind
from domain.sessions import EndReason
from integrations.login.passkeys import PASSKEYS_MAX
from integrations.login.passwords import Passwords
from tests.answers import code_of
from tests.api.auth.kept import execution, logged, mark, rows
from tests.api.auth.registration_town import CELLS, WITHIN_S, number
from tests.api.auth.village import Village
from tests.audited import leaves
from tests.conftest import OwnerPool
from tests.end_to_end.traces import Kept, standing
from tests.integrations.login.authenticator import Authenticator
from tests.workflows.registration_ports import Hashes
from workers.identity_sweeps import begin_deletions, begin_deletions_again, tell_changes

PASSWORD = "a long way to the polling station"


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


async def test_nothing_that_is_kept_or_said_tells_who_regains_and_deletes_an_account(
    village: Village, owner_pool: OwnerPool, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registration, voter = await village.voter()
    reference = (await village.town.row(registration)).reference
    await village.town.vendor.delete(f"/sumsub/_control/applicants/{reference}")  # as agreed with the vendor
    mail, password = await village.mail_of(voter), mark()
    asked = await village.asked(mail)
    shown = {"challengeToken": asked.challenge_token, "challengeNonce": asked.nonce}
    assert (await village.ask(mail, **shown, deviceEventId=asked.device_event_id)).status_code == 202
    link = await village.link_to(mail)
    request = "SELECT request_id FROM identity.recovery WHERE voter_id = $1"
    request_id = await village.town.cells["eu"].pool.fetchval(request, voter)
    refused = [
        await village.ask(f"{mail}@", **shown, deviceEventId=asked.device_event_id),
        await village.client.post(f"/v1/account/recovery/{link}", json={"password": password, "mail": mail}),
    ]
    done = await village.client.post(f"/v1/account/recovery/{link}", json={"password": password})
    assert done.status_code == 204, done.text
    refused.append(await village.client.post(f"/v1/account/recovery/{link}", json={"password": password}))
    await village.told(MessageKind.RECOVERED, mail)
    deleted = await village.deleted(voter, await village.log_in(voter))

    kept = [logged(capfd, caplog), *[item async for item in rows(owner_pool)]]
    for workflow_id in (
        recover_account_workflow_id("eu", request_id),
        delete_account_workflow_id("eu", deleted["deletionId"]),
    ):
        kept += [item async for item in execution(village.town.cells["eu"].temporal, workflow_id)]
    kept += [Kept("answer", answer.content + str(answer.headers).encode()) for answer in refused]
    secret = {"mail": mail, "password": password, "link": link.rpartition("_")[2], "nonce": asked.nonce}
    markers = {**secret, "token": asked.challenge_token, "event": asked.device_event_id}
    assert standing(kept, {name: value.encode() for name, value in markers.items()}) == set()
    assert [code_of(answer)[0] for answer in refused] == [400, 400, 410]
    # it did look where things are, and what names the account stays inside
    places = {place for _, place in standing(kept, {"id": request_id.encode()})}
    assert {place.split()[0] for place in places} >= {"postgres", "described"}
    assert {place.split()[0] for _, place in standing(kept, {"voter": voter.encode()})} == {"postgres"}
    assert ("voter", "postgres audit.entry") not in standing(kept, {"voter": voter.encode()})


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
    begun, versions = {name: Begun() for name in CELLS}, Hashes()
    events = {name: SimpleNamespace(device_events=village.cells.of(name).device_events) for name in CELLS}
    asks = village.recovery_over(
        lambda name: SimpleNamespace(account_processes=begun[name or ""]),
        SimpleNamespace(of=events.__getitem__),
        versions,
    )
    await asks.ask(await village.asked(f"{secrets.token_hex(4)}@example.org"))
    assert [[request.cell for request in begun[name].requests] for name in CELLS] == [["eu"], ["us"]]
    asked_for = {tuple(each.key_id for each in begun[name].requests[0].mail) for name in CELLS}
    assert asked_for == {versions.versions}  # an address is known under the version that was the newest then
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
        ({"profile": "clean_ios"}, 422, "device_event_invalid"),
        ({"mail": "no address"}, 400, "malformed_request"),
    ],
    ids=["no token", "token of another request", "no event", "bot", "another app", "no address"],
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
