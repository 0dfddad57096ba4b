"""Evidence of real cases, exported over HTTP and by command: always the same bytes, checked by public keys alone."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp
from temporalio.api.common.v1 import Payload
from typer.testing import CliRunner

from activities.voting import VotingActivities
from api.compliance.composition import BASE, TEMPLATES
from api.compliance.evidence_cells import evidence_desk
from api.compliance.pages import CompliancePages, add_compliance_pages
from api.http.application import create_application
from comitia.cli import app as command_line
from comitia.evidence import export_case
from domain.ballots import Answer
from domain.contracts.login import LoginDecision
from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import (
    DECISION,
    MANIFEST,
    RECEIPT,
    SIGNATURE,
    TIMELINE,
    EvidenceReason,
)
from domain.ids import (
    BatchId,
    new_attempt_id,
    new_registration_id,
    register_voter_workflow_id,
    submit_votes_workflow_id,
    verify_identity_workflow_id,
)
from domain.replay import Execution
from domain.stored_zip import read_zip
from domain.submissions import Submission, SubmissionIds
from domain.tokens import Role
from integrations.keys.opening import open_keys
from integrations.keys.purposes import (
    AUDIT_LOG,
    BUNDLE,
    HISTORY,
    SUBMISSION,
    in_flight,
    public,
)
from integrations.objects.log_objects import open_log_objects
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.pool import open_pool
from integrations.postgres.roles import AUDIT, VOTING
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from tests.answers import code_of
from tests.api.auth.registration_town import Town, number
from tests.api.compliance.officer import CELL, DOCUMENT, MAIL, WITHIN_S, Officer, histories
from tests.api.compliance.test_console import Logs, NoReplays
from tests.archive_world import archive_closed
from tests.audited import leaves
from tests.conftest import OwnerPool, SettingsFor
from tests.console_world import ADDRESS, ConsoleWorld, console_world
from tests.integrations.postgres.test_logins import login
from tests.masking_walk import SEEN, texts
from tests.vote_workers import vote_worker
from tests.voting_world import REGION, open_booth, voting_keys
from workflows.submit_votes import SubmitVotesWorkflow


async def test_a_case_is_one_file_that_is_the_same_again_and_good(officer: Officer, registered: str) -> None:
    content = await officer.exported(registered)
    assert await officer.failing(content) == []
    files = dict(read_zip(content))
    manifest = json.loads(files[MANIFEST])
    assert (manifest["case"], manifest["kind"], manifest["cell"]) == (registered, "registration", CELL)
    assert [(history["type"], history["workflow"]) for history in manifest["histories"]] == [
        ("RegisterVoter", register_voter_workflow_id(CELL, registered)),
        ("VerifyIdentity", verify_identity_workflow_id(CELL, registered, 1)),
    ]
    assert all(history["builds"] for history in manifest["histories"])  # which code decided
    assert [entry["kind"] for entry in manifest["entries"]] == ["registration.ended"]
    record = json.loads(files[DECISION])["record"]
    assert (record["stage"], record["caseNo"], record["policyVersion"]) == ("active", 1, 1)
    assert record["cases"] == [{"caseNo": 1, "provider": "sumsub", "reference": record["cases"][0]["reference"]}]
    steps = json.loads(files[TIMELINE])["steps"]
    assert {"assurance", "state"} <= {name for step in steps for name in step.get("came", ())}  # what was decided by
    assert any("rules" in step.get("given", ()) for step in steps)

    await officer.seal()  # what comes later, this export among it, changes nothing of the next one
    assert await officer.exported(registered) == content
    on_the_command_line = await export_case(officer.settings, registered, EvidenceReason.AUDIT)
    assert on_the_command_line == content


async def test_nothing_is_in_it_that_the_role_may_not_see(town: Town, officer: Officer, registered: str) -> None:
    content = await officer.exported(registered)
    steps = [
        step
        for run in await histories(town, officer).of(register_voter_workflow_id(CELL, registered))
        for step in run.steps
    ]
    contracts = [contract for step in steps for contract in (step.given, step.came) if contract is not None]
    found = [found for contract in contracts for found in texts(contract, SEEN[Role.COMPLIANCE])]
    secret = {text for is_hidden, text in found if is_hidden and len(text) > 7}  # codes may be anywhere
    assert len(secret) > 1  # hashes of documents, of codes
    open_text = {text for is_hidden, text in found if not is_hidden}
    for text in (secret - open_text) | {MAIL, DOCUMENT}:
        assert text.encode() not in content, text


async def test_each_export_is_an_entry_with_the_digest_of_what_was_taken(
    officer: Officer, registered: str, owner_pool: OwnerPool
) -> None:
    owner, key = await owner_pool(CELL), secrets.token_hex(8)

    async def entries() -> list[Any]:
        rows = await owner.fetch(
            "SELECT body FROM audit.entry WHERE kind = 'evidence.exported' AND body->>'subject' = $1", registered
        )
        return [json.loads(row["body"]) for row in rows]

    before = len(await entries())
    async with leaves(owner, "compliance POST /v1/compliance/bundles", subject=registered):
        for _ in range(3):
            content = await officer.exported(registered, key=key)
    found = (await entries())[before:]
    assert len(found) == 1
    told = {name: found[0][name] for name in ("actor", "role", "reason", "after")}
    digest = sha256(content).hexdigest()
    assert told == {"actor": "staff:u_tester", "role": "compliance", "reason": "court", "after": digest}
    other = await officer.post(registered, key=key, reason="complaint")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_used")


@asynccontextmanager
async def evidence_console(
    town: Town, officer: Officer, address: str = ADDRESS
) -> AsyncIterator[tuple[ConsoleWorld, ASGIApp]]:
    """Serve the pages of compliance that hand out evidence, of no vote, over the log of an officer."""
    settings, pools = officer.settings, {name: cell.pool for name, cell in town.cells.items()}
    keys = open_keys(settings, BUNDLE, public(AUDIT_LOG), HISTORY)
    ids, cell_of = SubmissionIds(bytes(32)), lambda name: town.cells[name or ""]
    desk = evidence_desk(settings, keys, open_log_objects(settings), cell_of, ids=ids, places=pools)
    async with console_world(settings, pools, BASE, TEMPLATES, address=address) as world:
        parts: tuple[Any, ...] = (Logs(), desk, NoReplays())
        add_compliance_pages(world.console, CompliancePages(world.console, *parts))
        app = create_application("compliance", make_telemetry(settings, "compliance"), forms_below=BASE)
        app.include_router(world.console.router)
        world.serve(app)
        yield world, app


async def test_the_page_hands_out_the_same_after_an_entry_of_its_own(
    town: Town, officer: Officer, registered: str, owner_pool: OwnerPool
) -> None:
    owner = await owner_pool(CELL)
    async with evidence_console(town, officer) as (world, _):
        _, browser = await world.signed_in(Role.COMPLIANCE)
        page = await browser.get()
        async with leaves(owner, "compliance POST /console/compliance/bundles", subject=registered):
            taken = await browser.submit(page, "/bundles", case=registered, reason="court")
        assert taken.content == await officer.exported(registered)


async def test_it_is_checked_by_command_with_public_keys_alone(
    officer: Officer, registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comitia.evidence.identity_settings", lambda *_: officer.settings)

    async def command(*arguments: str | Path) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, command_line, list(map(str, arguments)))
        return result.exit_code, result.output

    bundle, keys = tmp_path / "case.zip", tmp_path / "public.json"
    await officer.exported(registered)
    code, said = await command("evidence", "export", registered, "--out", bundle, "--reason", "audit")
    assert code == 0, said
    code, said = await command("evidence", "keys")
    keys.write_text(said)
    code, said = await command("verify", "bundle", bundle, "--keys", keys)
    assert (code, said.splitlines()[-1]) == (0, "This bundle is good."), said
    assert said.splitlines()[9].startswith("ok   10 the decision is the one that was sealed")
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    code, said = await command("verify", "bundle", bundle, "--keys", keys)
    assert code == 1
    assert "FAIL 1 an archive in the one form" in said
    code, said = await command("evidence", "export", "nobody", "--out", bundle, "--reason", "audit")
    assert (code, "not exported: case_not_found" in said) == (1, True)


async def test_what_is_archived_gives_the_same_bytes_and_is_not_believed_where_it_was_changed(
    town: Town, officer: Officer, registered: str, settings_for: SettingsFor
) -> None:
    content = await officer.exported(registered)
    cell, folder = town.cells[CELL], officer.settings.objects_folder
    assert folder is not None
    runs = await histories(town, officer).of(register_voter_workflow_id(CELL, registered))
    closed = [Execution(run.workflow_id, run.run_id, run.workflow_type) for run in runs]
    file = await archive_closed(settings_for(AUDIT), cell.temporal, CELL, folder, closed)
    assert await officer.exported(registered) == content

    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"encryption-key-id", b"encryption-key-ix", 1))
    answer = await officer.post(registered)
    assert (answer.status_code, answer.json()["code"]) == (500, "archive_contradicted")
    file.write_bytes(whole)
    assert await officer.exported(registered) == content


async def test_the_decision_of_a_login_is_bound_to_its_entry(town: Town, officer: Officer) -> None:
    made = login(LoginDecision.DENY)
    await PostgresLogins(town.cells[CELL].pool).record(made)
    await officer.seal()
    content = await officer.exported(made.request.attempt_id)
    assert await officer.failing(content) == []
    files = dict(read_zip(content))
    record = json.loads(files[DECISION])["record"]
    assert record["judged"]["signals"] == made.signals.model_dump(mode="json")
    assert record["judged"]["verdict"] == made.verdict.model_dump(mode="json")
    assert set(record) == {"judged", "method", "provider", "factors", "outcome", "factor", "at", "endedAt"}


async def test_a_record_that_was_changed_in_its_table_is_not_handed_out(
    town: Town, officer: Officer, registered: str, owner_pool: OwnerPool
) -> None:
    """Whoever owns the database has its rows, and not what the log has sealed of them."""
    made, owner = login(LoginDecision.DENY), await owner_pool(CELL)
    await PostgresLogins(town.cells[CELL].pool).record(made)
    await officer.seal()
    row = "UPDATE identity.{} WHERE {} = $1"
    for case_id, table, column, changes in (
        (registered, "registration", "registration_id", ("reasons = '{vpn}'", "staff_reasons = '{vpn}'")),
        (registered, "proofing_case", "registration_id", ("reference = 'another'", "provider = 'letters'")),
        (made.request.attempt_id, "login_attempt", "attempt_id", ("method = 'passkey'", "outcome = 'allowed'")),
    ):
        content = await officer.exported(case_id)
        for change in changes:
            name = change.split(" ")[0]
            kept = await owner.fetchval(f"SELECT {name} FROM identity.{table} WHERE {column} = $1", case_id)
            await owner.execute(row.format(f"{table} SET {change}", column), case_id)
            assert code_of(await officer.post(case_id)) == (500, "record_contradicted"), change
            await owner.execute(row.format(f"{table} SET {name} = $2", column), case_id, kept)
        assert await officer.exported(case_id) == content


async def test_of_a_case_that_is_open_there_is_what_has_happened_by_now(town: Town, officer: Officer) -> None:
    mail = f"open.{secrets.token_hex(4)}@example.org"
    begun: str = (await town.begin(CELL, mail=mail)).json()["registrationId"]
    await town.prove(begun, mail)
    await town.at_provider(begun)

    async def exported() -> bytes:
        answer = await officer.post(begun)
        assert answer.status_code == 200, answer.text
        return answer.content

    async def settled() -> bytes:
        """Export until nothing more happens by itself."""
        async with asyncio.timeout(WITHIN_S):
            found = await exported()
            while (again := await exported()) != found:
                found = again
                await asyncio.sleep(0.3)
            return found

    content = await settled()
    assert await officer.failing(content) == []
    files = dict(read_zip(content))
    manifest = json.loads(files[MANIFEST])
    assert (manifest["format"], manifest["state"], manifest["entries"]) == ("comitia-evidence/2", "open", [])
    last = [history["lastEvent"] for history in manifest["histories"]]
    assert len(last) == 2
    assert all(number > 1 for number in last)
    assert json.loads(files[DECISION])["record"]["stage"] == "proofing"
    assert mail.encode() not in content
    await town.show(begun, number())
    await town.at(begun, "active")
    await officer.seal()
    whole = await officer.exported(begun)
    assert json.loads(dict(read_zip(whole))[MANIFEST])["format"] == "comitia-evidence/1"
    assert await officer.failing(whole) == []


async def test_a_registration_that_ends_more_than_once_is_proved_after_each(town: Town, officer: Officer) -> None:
    """It is rejected, appealed, approved, and the approval taken back: of each end there is an entry."""
    end = await town.proofed(CELL, number(), reviewAnswer="RED", rejectLabels=["FORGERY"], reviewRejectType="FINAL")
    registration = end["registrationId"]

    async def proved() -> tuple[str, int, list[str]]:
        await officer.seal()
        answer = await officer.post(registration)
        assert answer.status_code == 200, answer.text
        assert await officer.failing(answer.content) == []
        files = dict(read_zip(answer.content))
        record, entries = json.loads(files[DECISION])["record"], json.loads(files[MANIFEST])["entries"]
        outcomes = [json.loads(files[entry["file"]])["body"]["outcome"] for entry in entries]
        return record["stage"], record["caseNo"], outcomes

    assert await proved() == ("rejected", 1, ["rejected"])
    appealed = await town.send("POST", registration, "/appeal")
    assert appealed.status_code == 200, appealed.text
    await town.at_provider(registration, 2)
    assert await proved() == ("proofing", 2, ["rejected"])
    await town.show(registration, number(), case_no=2)
    await town.at(registration, "active")
    assert await proved() == ("active", 2, ["rejected", "active"])
    await town.take_back(registration)
    async with asyncio.timeout(WITHIN_S):
        while (await town.row(registration)).stage != "rejected":
            await asyncio.sleep(0.05)
    assert await proved() == ("rejected", 2, ["rejected", "active", "rejected"])


async def test_a_vote_is_proved_without_its_choice(
    officer: Officer, settings_for: SettingsFor, owner_pool: OwnerPool
) -> None:
    settings = settings_for(VOTING)
    keys = voting_keys(settings)
    async with AsyncExitStack() as lifetime:
        pool = await open_pool(settings.cells[CELL].database, settings, VOTING, size=2)
        lifetime.push_async_callback(pool.close)
        booth = await open_booth(CELL, pool, await owner_pool(CELL), keys)
        again = secrets.token_bytes(32)
        votes = [booth.vote(Answer("1", ("2",))), booth.vote(nullifier=again), booth.vote(nullifier=again)]
        batch = await booth.batch(*votes)
        place = BatchId(batch.gateway_id, batch.number)
        ids = SubmissionIds((await keys.current(SUBMISSION)).secret)
        mine = [ids.make(Submission(place, index), vote.nullifier) for index, vote in enumerate(votes)]
        client = await connect(settings.cells[CELL].temporal, EncryptionCodec(keys, in_flight(CELL)))
        async with vote_worker(client, VotingActivities(booth.ledger, NoBroker())) as queue:
            workflow = submit_votes_workflow_id(CELL, place)
            handle = await client.start_workflow(SubmitVotesWorkflow.run, batch, id=workflow, task_queue=queue)
            await handle.result()
    early = await officer.post(mine[0])
    assert (early.status_code, early.json()["code"]) == (409, "not_sealed_yet")
    await officer.seal()
    content = (await officer.post(mine[0])).content
    assert await officer.failing(content) == []
    assert (await officer.post(mine[0])).content == content
    assert await export_case(officer.settings, mine[0], EvidenceReason.AUDIT) == content
    files = dict(read_zip(content))
    record = json.loads(files[DECISION])["record"]
    assert (record["survey"], record["region"], record["batch"]) == (booth.survey.id, REGION, str(place))
    receipt = json.loads(files[RECEIPT])
    assert (receipt["participation"]["nullifier"], receipt["size"]) == (votes[0].nullifier.hex(), 2)
    assert set(files) - {MANIFEST, SIGNATURE, DECISION, TIMELINE, RECEIPT} == {
        name for entry in json.loads(files[MANIFEST])["entries"] for name in (entry["file"], entry["proof"])
    }
    for other in votes[1:]:
        assert other.nullifier.hex().encode() not in content  # of the others of the batch there are hashes
    for vote in votes:
        assert vote.sealed_answers.hex().encode() not in content
        assert vote.sealed_answers not in content
    refused = await officer.post(mine[2])
    assert (refused.status_code, refused.json()["code"]) == (409, "case_stage")
    forged = mine[0][:-4] + ("AAAA" if mine[0][-4:] != "AAAA" else "BBBB")
    unknown = await officer.post(forged)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "case_not_found")


class NoBroker:
    """A broker that takes every summary."""

    async def publish(self, _summaries: Any) -> None:
        return None


async def test_who_may_not_and_what_is_not_there_gets_nothing(town: Town, officer: Officer, registered: str) -> None:
    for case_id in (
        "A" * 55,
        new_registration_id(CELL),
        new_registration_id("nowhere"),
        new_attempt_id(CELL),
        "A" * 56,
        "x",
    ):
        assert code_of(await officer.post(case_id)) == (404, "case_not_found")
    for role in (Role.ADMIN, Role.SUPPORT, Role.AUDITOR):
        assert code_of(await officer.post(registered, role)) == (403, "forbidden")
    assert code_of(await officer.post(registered, key=None)) == (400, "malformed_request")
    assert code_of(await officer.post(registered, reason="because")) == (400, "malformed_request")


class Destroyed:
    """A codec whose keys are gone."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise DomainError(ErrorCode.KEY_DESTROYED)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise DomainError(ErrorCode.KEY_DESTROYED)


async def test_a_history_whose_key_is_destroyed_still_tells_what_was_done(
    town: Town, officer: Officer, registered: str
) -> None:
    await officer.exported(registered)
    workflow = register_voter_workflow_id(CELL, registered)
    whole, sealed = (
        await histories(town, officer).of(workflow),
        await histories(town, officer, Destroyed()).of(workflow),
    )
    assert [run.events for run in sealed] == [run.events for run in whole]
    assert [run.is_opened for run in sealed] == [False, False]
    for run, other in zip(whole, sealed, strict=True):
        assert [(step.kind, step.name) for step in run.steps] == [(step.kind, step.name) for step in other.steps]
        assert all(step.given is None and step.came is None for step in other.steps)
