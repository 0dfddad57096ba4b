import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from domain.contracts.exports import ExportFile, ExportFormat, ExportRequest, StoredObject
from domain.contracts.surveys import (
    CorrectSurveyInput,
    FinishSurveyInput,
    FreezeSurveyInput,
    OpenSurveyInput,
    SurveyKeys,
    SurveyStage,
)
from domain.errors import DomainError, ErrorCode
from domain.ids import new_export_id, new_survey_id
from domain.survey_corrections import ReplacedText, TextField
from domain.survey_drafts import CatalogueEntry, OptionDraft, QuestionDraft, SurveyDraft, new_entry
from integrations.postgres.catalogue import PostgresCatalogue
from integrations.postgres.catalogue_exports import PostgresExports
from integrations.postgres.pool import open_pool, pool_on_demand
from integrations.postgres.roles import SURVEYS
from tests.conftest import OwnerPool, SettingsFor

ACTOR = "staff:u_x"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def draft(**more: Any) -> CatalogueEntry:
    question = QuestionDraft("What?", 1, 1, (OptionDraft("Soup"), OptionDraft("Salad")))
    return new_entry(new_survey_id(), SurveyDraft("Lunch", (question,), **more))


@pytest_asyncio.fixture(loop_scope="session")
async def pool(settings_for: SettingsFor) -> AsyncIterator[asyncpg.Pool]:
    settings = settings_for(SURVEYS)
    assert settings.catalogue is not None
    opened = await open_pool(settings.catalogue, settings, SURVEYS)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def catalogue(pool: asyncpg.Pool) -> PostgresCatalogue:
    return PostgresCatalogue(pool)


async def drafted(catalogue: PostgresCatalogue, **more: Any) -> CatalogueEntry:
    entry = draft(**more)
    await catalogue.create(entry, ACTOR)
    return entry


async def opened(catalogue: PostgresCatalogue) -> CatalogueEntry:
    survey_id = (await drafted(catalogue)).survey.id
    await catalogue.freeze(freezing(survey_id))
    await catalogue.keep_keys(keys(survey_id))
    return await catalogue.open(OpenSurveyInput(survey_id=survey_id, start_at=NOW))


def freezing(survey_id: str, version: int | None = None) -> FreezeSurveyInput:
    return FreezeSurveyInput(survey_id=survey_id, actor=ACTOR, at=NOW, expected_version=version)


def keys(survey_id: str, name: bytes = b"a") -> SurveyKeys:
    return SurveyKeys(survey_id=survey_id, wrapped_ballot_key=name, wrapped_eligibility_key=name + b"b")


async def code_of(call: Awaitable[object]) -> ErrorCode:
    with pytest.raises(DomainError) as refused:
        await call
    return refused.value.code


async def test_what_is_kept_comes_back(catalogue: PostgresCatalogue) -> None:
    entry = await drafted(catalogue, regions=("UK",), minimum_age=18, finish_at=NOW)
    assert await catalogue.get(entry.survey.id) == entry
    assert await catalogue.get(new_survey_id()) is None


async def test_freezing_many_times_at_once_is_freezing_once(catalogue: PostgresCatalogue, pool: asyncpg.Pool) -> None:
    survey_id = (await drafted(catalogue)).survey.id
    found = await asyncio.gather(*(catalogue.freeze(freezing(survey_id)) for _ in range(10)))
    assert {entry.survey.version for entry in found} == {2}
    assert {(entry.stage, entry.published_from) for entry in found} == {(SurveyStage.PUBLISHING, 1)}
    statement = "SELECT count(*) FROM catalogue.staff_action WHERE survey_id = $1 AND action = 'publish'"
    assert await pool.fetchval(statement, survey_id) == 1
    for version in (1, 2):  # as it was found, and as it is
        assert (await catalogue.freeze(freezing(survey_id, version))).stage is SurveyStage.PUBLISHING


async def test_freezing_is_refused(catalogue: PostgresCatalogue) -> None:
    entry = await drafted(catalogue)
    assert await code_of(catalogue.freeze(freezing(entry.survey.id, 9))) is ErrorCode.PRECONDITION_FAILED
    assert await code_of(catalogue.freeze(freezing(new_survey_id()))) is ErrorCode.SURVEY_NOT_FOUND
    over = await drafted(catalogue, finish_at=NOW - timedelta(seconds=1))
    assert await code_of(catalogue.freeze(freezing(over.survey.id))) is ErrorCode.SURVEY_INVALID
    assert (await catalogue.get(entry.survey.id)) == entry


async def test_the_first_keys_stay(catalogue: PostgresCatalogue) -> None:
    survey_id = (await drafted(catalogue)).survey.id
    assert await code_of(catalogue.keep_keys(keys(survey_id))) is ErrorCode.SURVEY_NOT_FOUND  # a draft has none
    await catalogue.freeze(freezing(survey_id))
    assert await catalogue.keys(survey_id) is None
    found = await asyncio.gather(*(catalogue.keep_keys(keys(survey_id, f"{n}".encode())) for n in range(10)))
    assert len(set(found)) == 1
    assert await catalogue.keys(survey_id) == found[0]


async def test_the_first_window_and_the_first_end_stay(catalogue: PostgresCatalogue) -> None:
    entry = await opened(catalogue)
    survey_id = entry.survey.id
    later = NOW + timedelta(hours=1)
    assert await catalogue.open(OpenSurveyInput(survey_id=survey_id, start_at=later)) == entry
    ended = await asyncio.gather(
        *(
            catalogue.finish(
                FinishSurveyInput(
                    survey_id=survey_id, start_at=NOW, finish_at=NOW + timedelta(hours=n), actor=f"staff:u_{n}"
                )
            )
            for n in range(1, 6)
        )
    )
    assert len({found.survey.finish_at for found in ended}) == 1
    assert {(found.stage, found.finished_from) for found in ended} == {(SurveyStage.FINISHED, entry.survey.version)}


async def test_a_correction_is_made_once_and_only_of_what_was_seen(catalogue: PostgresCatalogue) -> None:
    entry = await opened(catalogue)
    right = entry.survey.model_copy(update={"title": "Luncheon", "version": entry.survey.version + 1})
    request = CorrectSurveyInput(survey=right, actor=ACTOR, expected_version=entry.survey.version)
    for _ in range(2):
        assert (await catalogue.correct(request)).survey == right
    other = request.model_copy(update={"survey": right.model_copy(update={"title": "Brunch"})})
    assert await code_of(catalogue.correct(other)) is ErrorCode.PRECONDITION_FAILED
    more = right.model_copy(update={"minimum_age": 18, "version": right.version + 1})
    wrong = CorrectSurveyInput(survey=more, actor=ACTOR, expected_version=right.version)
    assert await code_of(catalogue.correct(wrong)) is ErrorCode.SURVEY_FROZEN


async def test_a_correction_keeps_what_it_replaced_for_good(catalogue: PostgresCatalogue, pool: asyncpg.Pool) -> None:
    entry = await opened(catalogue)
    right = entry.survey.model_copy(update={"title": "Luncheon", "version": entry.survey.version + 1})
    request = CorrectSurveyInput(survey=right, actor=ACTOR, expected_version=entry.survey.version)
    corrected = [await catalogue.correct(request) for _ in range(2)]
    assert corrected[0].corrections == corrected[1].corrections
    (kept,) = corrected[0].corrections
    assert kept.text == ReplacedText("", "", TextField.TITLE, entry.survey.title, "Luncheon")
    assert kept.version == right.version
    assert abs(kept.corrected_at - datetime.now(UTC)) < timedelta(minutes=1)
    first, second = right.questions[0].options[:2]
    swapped = (first.model_copy(update={"text": second.text}), second.model_copy(update={"text": first.text}))
    question = right.questions[0].model_copy(update={"options": (*swapped, *right.questions[0].options[2:])})
    wrong = right.model_copy(update={"questions": (question, *right.questions[1:]), "version": right.version + 1})
    other = CorrectSurveyInput(survey=wrong, actor=ACTOR, expected_version=right.version)
    assert await code_of(catalogue.correct(other)) is ErrorCode.SURVEY_FROZEN
    assert await catalogue.get(right.id) == corrected[0]
    for change in ("UPDATE catalogue.corrected_text SET before = ''", "DELETE FROM catalogue.corrected_text"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(change)


async def test_a_catalogue_that_is_away_is_said_to_be(settings_for: SettingsFor, unused_tcp_port: int) -> None:
    settings = settings_for(SURVEYS)
    assert settings.catalogue is not None
    nowhere = settings.catalogue.model_copy(update={"port": unused_tcp_port})
    pool = await pool_on_demand(nowhere, settings, SURVEYS)
    away, exports, entry = PostgresCatalogue(pool), PostgresExports(pool), draft()
    survey_id = entry.survey.id
    calls = [
        away.get(survey_id),
        away.page(None, 1, drafts=True),
        away.create(entry, ACTOR),
        away.update_draft(entry, entry, ACTOR),
        away.delete_draft(entry, ACTOR),
        away.freeze(freezing(survey_id)),
        away.keys(survey_id),
        away.keep_keys(keys(survey_id)),
        away.open(OpenSurveyInput(survey_id=survey_id, start_at=NOW)),
        exports.find(survey_id, new_export_id()),
    ]
    for call in calls:
        assert await code_of(call) is ErrorCode.CATALOGUE_UNAVAILABLE
    await pool.close()


async def test_an_export_is_registered_and_completed_once(pool: asyncpg.Pool, catalogue: PostgresCatalogue) -> None:
    exports = PostgresExports(pool)
    survey_id = (await drafted(catalogue)).survey.id
    request = ExportRequest(
        survey_id=survey_id, export_id=new_export_id(), actor=ACTOR, format=ExportFormat.JSON, region="UK"
    )
    await asyncio.gather(*(exports.register(request) for _ in range(5)))
    found = await exports.find(survey_id, request.export_id)
    assert found is not None
    assert (found.request, found.file) == (request, None)
    files = [
        ExportFile(
            survey_id=survey_id,
            export_id=request.export_id,
            stored=StoredObject(name=f"exports/{n}.json", size_bytes=n, sha256=bytes([n]) * 32),
            as_of=NOW,
            missing_cells=("us",),
        )
        for n in range(1, 4)
    ]
    for file in files:
        await exports.complete(file)
    found = await exports.find(survey_id, request.export_id)
    assert found is not None
    assert found.file == files[0]
    assert found.finished_at is not None
    assert await exports.find(new_survey_id(), request.export_id) is None
    statement = "SELECT count(*) FROM catalogue.staff_action WHERE survey_id = $1 AND action = 'export'"
    assert await pool.fetchval(statement, survey_id) == 1
    unknown = request.model_copy(update={"survey_id": new_survey_id(), "export_id": new_export_id()})
    assert await code_of(exports.register(unknown)) is ErrorCode.SURVEY_NOT_FOUND


async def test_the_service_owns_nothing(
    pool: asyncpg.Pool, owner_pool: OwnerPool, catalogue: PostgresCatalogue
) -> None:
    survey_id = (await drafted(catalogue)).survey.id
    for statement in (
        "DELETE FROM catalogue.staff_action WHERE survey_id = $1",
        "UPDATE catalogue.staff_action SET actor = 'x' WHERE survey_id = $1",
        "DELETE FROM catalogue.export WHERE survey_id = $1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement, survey_id)
    assert await (await owner_pool("catalogue")).fetchval(
        "SELECT count(*) FROM catalogue.staff_action WHERE survey_id = $1", survey_id
    )
