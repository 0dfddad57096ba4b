"""Rotation of key-encryption keys over the real Temporal, with real keys in files and real databases."""

import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from temporalio.client import Client, ScheduleActionStartWorkflow
from temporalio.common import WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.worker import Replayer, Worker, WorkerDeploymentConfig

from activities import key_rotation
from activities.key_rotation import KeyRotationActivities
from domain.contracts.keys import RotatedKeys, RotateKeysInput
from domain.contracts.surveys import SurveyKeys
from domain.errors import DomainError, ErrorCode
from domain.ids import new_survey_id, new_voter_id, rotate_keys_workflow_id
from domain.key_ports import KeyEvent, PersonalKey
from domain.tokens import VOTER_ACCESS, VoterClaims
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.cookies import CookieSeal
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import (
    ACCESS_TOKEN,
    CONSOLE,
    DOCUMENT,
    HASH_KEYS,
    KEK_BALLOT,
    KEK_ELIGIBILITY,
    KEK_PERSONAL,
    KEY_ENCRYPTION_KEYS,
    LOOKUP,
    SHORT_LIVED_KEYS,
    STAFF_TOKEN,
    generate,
    manage,
)
from integrations.keys.signing import VerificationKeys
from integrations.keys.tokens import TokenVerifier
from integrations.keys.wrapping import KeyNames, key_id_of
from integrations.temporal.worker import sandbox
from tests.workflows.stored import HISTORIES, RECORD, without_traces
from workers.key_schedule import SCHEDULE_ID, schedule_key_rotation
from workflows.rotate_keys import RotateKeysWorkflow

CELLS = ("eu", "us")
SURVEY_KEYS = (KEK_BALLOT, KEK_ELIGIBILITY)


class Wrapped:
    """The wrapped keys of a catalogue or of a cell."""

    def __init__(self) -> None:
        self.surveys: dict[str, SurveyKeys] = {}
        self.in_publication = 0

    async def live(self) -> AsyncIterator[SurveyKeys]:
        for keys in list(self.surveys.values()):
            yield keys

    async def publishing(self) -> int:
        return self.in_publication

    async def wrapped(self) -> list[bytes]:
        found = self.surveys.values()
        return [key for keys in found for key in (keys.wrapped_ballot_key, keys.wrapped_eligibility_key)]


class CatalogueWrapped(Wrapped):
    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[str, str]] = []
        self.actors: list[str] = []

    async def note(self, key_id: str, event: KeyEvent, actor: str = "") -> None:
        self.noted.append((key_id, event.value))
        self.actors.append(actor)

    async def replace(self, before: SurveyKeys, after: SurveyKeys) -> bool:
        if self.surveys[before.survey_id] != before:
            return False
        self.surveys[before.survey_id] = after
        return True


class CellWrapped(Wrapped):
    async def replace(self, keys: SurveyKeys) -> bool:
        found = self.surveys.get(keys.survey_id)
        if found is None or found == keys:
            return False
        self.surveys[keys.survey_id] = keys
        return True


class PersonalWrapped:
    """The wrapped personal keys of a cell; `away` calls fail before it answers."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.pages: list[int] = []
        self.away = 0

    async def under(self, key_id: str, after: str, limit: int) -> list[PersonalKey]:
        if self.away and self.pages:
            self.away -= 1
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
        found = [
            PersonalKey(voter, wrapped)
            for voter, wrapped in sorted(self.keys.items())
            if voter > after and KeyNames().key_id_of(wrapped) == key_id
        ][:limit]
        self.pages.append(len(found))
        return found

    async def replace(self, key_id: str, keys: Sequence[tuple[PersonalKey, bytes]]) -> int:
        for key, wrapped in keys:
            assert (self.keys[key.voter_id], key_id_of(wrapped)) == (key.wrapped, key_id)
            self.keys[key.voter_id] = wrapped
        return len(keys)

    async def uses(self, key_id: str) -> bool:
        return any(KeyNames().key_id_of(wrapped) == key_id for wrapped in self.keys.values())


@dataclass
class Vault:
    """Keys in a folder, surveys wrapped under them, and whoever rotates."""

    folder: Path
    client: Client
    today: date
    catalogue: CatalogueWrapped
    cells: dict[str, CellWrapped]
    personal: dict[str, PersonalWrapped]

    def kms(self, *allowed: str) -> FileKms:
        return FileKms(self.folder, frozenset(allowed), today=lambda: self.today)

    async def publish(self) -> tuple[str, bytes, bytes]:
        """Return a survey that is in the catalogue and in every cell, and its two keys."""
        survey_id, kms = new_survey_id(), self.kms(KEK_BALLOT, KEK_ELIGIBILITY)
        made = [await kms.generate_data_key(purpose, survey_id) for purpose in (KEK_BALLOT, KEK_ELIGIBILITY)]
        keys = SurveyKeys(
            survey_id=survey_id, wrapped_ballot_key=made[0].wrapped, wrapped_eligibility_key=made[1].wrapped
        )
        for place in (self.catalogue, *self.cells.values()):
            place.surveys[survey_id] = keys
        return survey_id, made[0].plaintext, made[1].plaintext

    async def register(self, cell: str, voters: int) -> dict[str, bytes]:
        """Return the personal keys of new voters, wrapped in a cell."""
        kms, made = self.kms(KEK_PERSONAL), {}
        for _ in range(voters):
            voter = new_voter_id(cell)
            key = await kms.generate_data_key(KEK_PERSONAL, voter)
            self.personal[cell].keys[voter], made[voter] = key.wrapped, key.plaintext
        return made

    async def rotate_personal(self, name: str = "", **fields: Any) -> RotatedKeys:
        """Run a rotation that wraps people's keys anew, too."""
        return await self.rotate(name, purposes=KEY_ENCRYPTION_KEYS, personal_purpose=KEK_PERSONAL, **fields)

    async def rotate(self, name: str = "", **fields: Any) -> RotatedKeys:
        """Run a rotation with the permissions of the platform's worker, which show no key; replay it."""
        kms = self.kms(
            *(permit(purpose) for permit in (generate, manage) for purpose in KEY_ENCRYPTION_KEYS),
            *(manage(purpose) for purpose in (*HASH_KEYS, *SHORT_LIVED_KEYS)),
        )
        queue = f"keys-{secrets.token_hex(4)}"
        cells = dict(self.cells)
        activities = KeyRotationActivities(kms, KeyNames(), self.catalogue, cells, self.personal)
        request = RotateKeysInput(**{"purposes": SURVEY_KEYS, "cells": CELLS, **fields})
        async with Worker(
            self.client,
            task_queue=queue,
            workflows=[RotateKeysWorkflow],
            activities=activities.all(),
            workflow_runner=sandbox(),
            max_cached_workflows=0,
            deployment_config=WorkerDeploymentConfig(
                WorkerDeploymentVersion("tests", "1"), use_worker_versioning=False
            ),
        ):
            handle = await self.client.start_workflow(
                RotateKeysWorkflow.run, request, id=rotate_keys_workflow_id(queue), task_queue=queue
            )
            rotated: RotatedKeys = await handle.result()
        history = await handle.fetch_history()
        replayer = Replayer(
            workflows=[RotateKeysWorkflow], data_converter=pydantic_data_converter, workflow_runner=sandbox()
        )
        await replayer.replay_workflow(history)
        if name and os.environ.get(RECORD):
            events = without_traces(json.loads(history.to_json()))
            (HISTORIES / f"{name}.json").write_text(json.dumps(events, indent=1, sort_keys=True) + "\n")
        return rotated


@pytest.fixture
def vault(tmp_path: Path, client: Client) -> Vault:
    before = (datetime.now(UTC) - timedelta(days=40)).date()
    cells, personal = {cell: CellWrapped() for cell in CELLS}, {cell: PersonalWrapped() for cell in CELLS}
    return Vault(tmp_path, client, before, CatalogueWrapped(), cells, personal)


async def test_old_keys_get_a_new_version_live_keys_follow_and_the_old_one_is_destroyed(vault: Vault) -> None:
    survey_id, ballot, eligibility = await vault.publish()
    old = vault.catalogue.surveys[survey_id]
    vault.today = datetime.now(UTC).date()
    rotated = await vault.rotate("rotate-keys-due")
    assert (len(rotated.made), rotated.destroyed, rotated.rewrapped, rotated.failed) == (2, (), 1, 0)
    opener = vault.kms(KEK_BALLOT, KEK_ELIGIBILITY)
    for place in (vault.catalogue, *vault.cells.values()):
        keys = place.surveys[survey_id]
        assert {key_id_of(keys.wrapped_ballot_key), key_id_of(keys.wrapped_eligibility_key)} == set(rotated.made)
        assert await opener.unwrap(keys.wrapped_ballot_key, survey_id) == ballot
        assert await opener.unwrap(keys.wrapped_eligibility_key, survey_id) == eligibility
    assert await opener.unwrap(old.wrapped_ballot_key, survey_id) == ballot  # somebody may be in the middle of it
    again = await vault.rotate("rotate-keys-nothing-due", grace_days=0, actor="comitia:tester")
    assert (again.made, again.rewrapped, len(again.destroyed)) == ((), 0, 2)
    assert vault.catalogue.actors == ["", "", "comitia:tester", "comitia:tester"]
    events = [*((key_id, "made") for key_id in rotated.made), *((key_id, "destroyed") for key_id in again.destroyed)]
    assert vault.catalogue.noted == events
    with pytest.raises(DomainError) as refused:
        await opener.unwrap(old.wrapped_ballot_key, survey_id)  # also from a backup
    assert refused.value.code is ErrorCode.KEY_DESTROYED
    assert await opener.unwrap(vault.catalogue.surveys[survey_id].wrapped_ballot_key, survey_id) == ballot


async def test_what_is_wrapped_under_an_old_version_anywhere_keeps_it(vault: Vault) -> None:
    survey_id, _, _ = await vault.publish()
    old = vault.catalogue.surveys[survey_id]
    vault.today = datetime.now(UTC).date()
    vault.catalogue.in_publication = 1  # its process has the keys as they were wrapped
    assert (await vault.rotate(grace_days=0)).destroyed == ()
    vault.catalogue.in_publication = 0
    stray = new_survey_id()
    vault.cells["us"].surveys[stray] = old.model_copy(update={"survey_id": stray})
    assert (await vault.rotate(grace_days=0)).destroyed == ()
    del vault.cells["us"].surveys[stray]
    assert len((await vault.rotate(grace_days=0)).destroyed) == 2


async def test_a_survey_that_no_cell_has_keeps_the_versions_of_both_its_keys(vault: Vault) -> None:
    survey_id, _, _ = await vault.publish()
    unpublished = new_survey_id()  # under which its keys were not wrapped, so that they cannot be wrapped anew
    vault.catalogue.surveys[unpublished] = vault.catalogue.surveys[survey_id].model_copy(
        update={"survey_id": unpublished}
    )
    vault.today = datetime.now(UTC).date()
    assert (await vault.rotate(grace_days=0)).destroyed == ()
    del vault.catalogue.surveys[unpublished]
    assert len((await vault.rotate(grace_days=0)).destroyed) == 2


async def test_a_cell_that_was_restored_gets_the_keys_of_the_catalogue(vault: Vault) -> None:
    survey_id, _, _ = await vault.publish()
    old = vault.catalogue.surveys[survey_id]
    vault.today = datetime.now(UTC).date()
    await vault.rotate(grace_days=0)
    vault.cells["eu"].surveys[survey_id] = old  # as its backup has it, under a key that is gone
    await vault.rotate(age_days=365_000)
    assert vault.cells["eu"].surveys[survey_id] == vault.catalogue.surveys[survey_id]


async def test_keys_that_cannot_be_rewrapped_hold_up_no_other_and_are_counted(vault: Vault) -> None:
    survey_id, _, _ = await vault.publish()
    broken = new_survey_id()
    vault.catalogue.surveys[broken] = SurveyKeys(
        survey_id=broken, wrapped_ballot_key=b"x", wrapped_eligibility_key=b"y"
    )
    vault.today = datetime.now(UTC).date()
    rotated = await vault.rotate()
    assert (rotated.rewrapped, rotated.failed) == (1, 1)
    assert key_id_of(vault.catalogue.surveys[survey_id].wrapped_ballot_key) in rotated.made


async def test_whoever_rotates_sees_no_key(vault: Vault) -> None:
    survey_id, _, _ = await vault.publish()
    keys = vault.catalogue.surveys[survey_id]
    manager = vault.kms(manage(KEK_BALLOT))
    assert (await manager.rotate(KEK_BALLOT)).secret == b""
    assert await manager.rewrap(keys.wrapped_ballot_key, survey_id) != keys.wrapped_ballot_key
    for step in (
        manager.unwrap(keys.wrapped_ballot_key, survey_id),
        manager.current(KEK_BALLOT),
        manager.by_id(key_id_of(keys.wrapped_ballot_key)),
        manager.rewrap(keys.wrapped_eligibility_key, survey_id),
    ):
        with pytest.raises(DomainError) as refused:
            await step
        assert refused.value.code is ErrorCode.KEY_UNAVAILABLE


async def test_personal_keys_follow_and_the_old_version_is_destroyed(vault: Vault) -> None:
    made = {cell: await vault.register(cell, 3) for cell in CELLS}
    old = {voter: wrapped for cell in CELLS for voter, wrapped in vault.personal[cell].keys.items()}
    vault.today = datetime.now(UTC).date()
    rotated = await vault.rotate_personal("rotate-keys-personal", grace_days=0, settle_s=1)
    assert (rotated.voters, rotated.failed) == (6, 0)
    (version,) = [key_id for key_id in rotated.made if key_id.startswith(KEK_PERSONAL)]
    opener = vault.kms(KEK_PERSONAL)
    for cell in CELLS:
        for voter, key in made[cell].items():
            wrapped = vault.personal[cell].keys[voter]
            assert key_id_of(wrapped) == version
            assert await opener.unwrap(wrapped, voter) == key
            with pytest.raises(DomainError) as refused:
                await opener.unwrap(old[voter], voter)  # also from a backup
            assert refused.value.code is ErrorCode.KEY_DESTROYED


async def test_a_cell_away_in_the_middle_is_gone_on_with_where_it_was(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rotation, "PAGE", 2)
    await vault.register("us", 5)
    vault.today = datetime.now(UTC).date()
    vault.personal["us"].away = 1  # after the first page
    rotated = await vault.rotate_personal()
    assert (rotated.voters, rotated.failed) == (5, 0)
    assert vault.personal["us"].pages == [2, 2, 1, 0]
    assert {key_id_of(wrapped) for wrapped in vault.personal["us"].keys.values()} < set(rotated.made)


async def test_a_personal_key_that_cannot_be_rewrapped_keeps_its_version_and_holds_up_no_other(vault: Vault) -> None:
    await vault.register("eu", 2)
    stranger, victim = sorted(vault.personal["eu"].keys)
    vault.personal["eu"].keys[victim] = vault.personal["eu"].keys[stranger]  # the context is another voter's
    vault.today = datetime.now(UTC).date()
    rotated = await vault.rotate_personal(grace_days=0)
    assert (rotated.voters, rotated.failed) == (1, 1)
    old = key_id_of(vault.personal["eu"].keys[victim])
    assert old not in rotated.destroyed
    assert old in await vault.kms(KEK_PERSONAL).key_ids(KEK_PERSONAL)


async def test_keys_of_hashes_get_a_new_version_and_lose_none(vault: Vault) -> None:
    kms = vault.kms(LOOKUP, DOCUMENT)
    old = [(await kms.current(purpose)).key_id for purpose in HASH_KEYS]
    vault.today = datetime.now(UTC).date()
    await kms.rotate(DOCUMENT)  # by hand, a moment ago
    rotated = await vault.rotate("rotate-keys-hashes", purposes=(), hash_purposes=HASH_KEYS, hash_age_days=30)
    assert (len(rotated.made), rotated.destroyed) == (1, ())
    for purpose, first in zip(HASH_KEYS, old, strict=True):
        versions = await kms.key_ids(purpose)
        assert (versions[0], len(versions)) == (first, 2)


async def test_keys_of_tokens_are_replaced_with_an_overlap_that_no_token_outlives(vault: Vault) -> None:
    kms = vault.kms(ACCESS_TOKEN, STAFF_TOKEN)
    tokens, listed = AccessTokens(kms), VerificationKeys(kms, ACCESS_TOKEN)
    verifier = TokenVerifier(VoterClaims, VOTER_ACCESS, listed)
    for held in (tokens, listed):
        await held.refresh()
    before = tokens.voter(new_voter_id("eu"), "eu", "DE").encode()
    vault.today = datetime.now(UTC).date()
    rotated = await vault.rotate("rotate-keys-tokens", purposes=(), token_purposes=(ACCESS_TOKEN, STAFF_TOKEN))
    assert (len(rotated.made), rotated.destroyed) == (2, ())
    await listed.refresh()
    for _ in range(2):
        await tokens.refresh()
    after = tokens.voter(new_voter_id("eu"), "eu", "DE").encode()
    assert {key_id_in(before), key_id_in(after)} == set(listed.by_id)
    assert key_id_in(after) in rotated.made
    for token in (before, after):
        verifier.verify(token, time.time())
    again = await vault.rotate(purposes=(), token_purposes=(ACCESS_TOKEN, STAFF_TOKEN), grace_days=0)
    assert (again.made, len(again.destroyed)) == ((), 2)
    assert key_id_in(before) in again.destroyed
    events = [*((key_id, "made") for key_id in rotated.made), *((key_id, "destroyed") for key_id in again.destroyed)]
    assert vault.catalogue.noted == events
    await listed.refresh()
    verifier.verify(after, time.time())
    with pytest.raises(DomainError) as refused:
        verifier.verify(before, time.time())  # its fifteen minutes are long over by then
    assert refused.value.code is ErrorCode.TOKEN_INVALID


async def test_the_key_of_cookies_is_replaced_and_nobody_is_signed_out(vault: Vault) -> None:
    kms, clock = vault.kms(CONSOLE), Clock()
    seals = [CookieSeal(kms, now=clock) for _ in range(2)]  # two processes, the second of which has not looked again
    before = await seals[1].seal("session", "of before")
    assert await seals[0].open("session", before) == "of before"
    vault.today = datetime.now(UTC).date()
    rotated = await vault.rotate(purposes=(), token_purposes=SHORT_LIVED_KEYS)
    made = next(key_id for key_id in rotated.made if key_id.startswith(f"{CONSOLE}/"))
    assert rotated.destroyed == ()
    fresh = CookieSeal(kms, now=clock)
    after = await fresh.seal("session", "of afterwards")
    for seal in (*seals, fresh):
        assert [await seal.open("session", cookie) for cookie in (before, after)] == ["of before", "of afterwards"]
    clock.at += 60
    assert key_of_cookie(await seals[1].seal("session", "a minute later")) == key_of_cookie(after) == made

    again = await vault.rotate(purposes=(), token_purposes=SHORT_LIVED_KEYS, grace_days=0)
    assert again.made == ()
    assert any(key_id.startswith(f"{CONSOLE}/") for key_id in again.destroyed)
    for seal in (*seals, fresh):
        assert [await seal.open("session", cookie) for cookie in (before, after)] == [None, "of afterwards"]
    assert [event for key_id, event in vault.catalogue.noted if key_id.startswith(f"{CONSOLE}/")] == [
        "made",
        "destroyed",
    ]


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def key_of_cookie(cookie: str) -> str:
    day, number, _ = cookie.split(".")
    return f"{CONSOLE}/{day}/{number}"


def key_id_in(token: bytes) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_a_schedule_of_an_earlier_release_gets_the_input_of_this_one(client: Client) -> None:
    with suppress(RPCError):
        await client.get_schedule_handle(SCHEDULE_ID).delete()
    await schedule_key_rotation(client, ("eu",))
    handle = client.get_schedule_handle(SCHEDULE_ID)
    await handle.pause(note="by an operator")
    try:
        for _ in range(2):
            await schedule_key_rotation(client, CELLS)
        found = (await handle.describe()).schedule
        assert isinstance(found.action, ScheduleActionStartWorkflow)
        (given,) = await client.data_converter.decode(found.action.args, [RotateKeysInput])
        assert (given.cells, given.personal_purpose, given.hash_purposes) == (CELLS, KEK_PERSONAL, HASH_KEYS)
        assert given.token_purposes == SHORT_LIVED_KEYS
        assert (found.state.paused, found.state.note) == (True, "by an operator")
    finally:
        await handle.delete()
