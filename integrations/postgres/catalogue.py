"""The catalogue of surveys in PostgreSQL: every change is one compare-and-set with its staff action beside it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
from pydantic import TypeAdapter

from domain.audit import AuditEntry, AuditKind
from domain.contracts.surveys import (
    CorrectSurveyInput,
    ExtendSurveyInput,
    FinishSurveyInput,
    FreezeSurveyInput,
    OpenSurveyInput,
    Question,
    Survey,
    SurveyIntake,
    SurveyKeys,
    SurveyStage,
    Visibility,
)
from domain.errors import DomainError, ErrorCode
from domain.survey_corrections import CorrectedText, ReplacedText, check_replacements, replaced_texts
from domain.survey_drafts import CatalogueEntry, Counters
from domain.survey_ports import Listing
from domain.surveys import check_correction, definition_digest
from integrations.postgres import catalogue_statements as sql
from integrations.postgres.audit_entries import append
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as
from integrations.postgres.staff_actions import note_action

_PUBLISHING = "process:run-survey"
_QUESTIONS = TypeAdapter(tuple[Question, ...])
_CORRECTIONS = TypeAdapter(tuple[CorrectedText, ...])


class PostgresCatalogue:
    """Implements `SurveyCatalogue`; made for the role `comitia_surveys`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def get(self, survey_id: str) -> CatalogueEntry | None:
        """Return a survey in any stage, or None."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            row = await self._pool.fetchrow(sql.ENTRY, survey_id)
        return None if row is None else _entry(row)

    async def page(self, after: tuple[datetime, str] | None, limit: int, *, drafts: bool) -> tuple[Listing, ...]:
        """Return up to `limit` surveys, newest first, that come after a listed one."""
        moment, survey_id = after or (None, None)
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            rows = await self._pool.fetch(sql.PAGE, moment, survey_id, limit, drafts)
        return tuple(
            Listing(
                survey_id=row["survey_id"],
                title=row["title"],
                stage=SurveyStage(row["stage"]),
                start_at=row["start_at"],
                finish_at=row["finish_at"],
                created_at=row["created_at"],
            )
            for row in rows
        )

    async def create(self, entry: CatalogueEntry, actor: str) -> None:
        """Add a draft."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(sql.CREATE, *_columns(entry))
                await _insert_questions(connection, entry.survey)
                await _note(connection, actor, "create", None, entry)

    async def update_draft(self, before: CatalogueEntry, after: CatalogueEntry, actor: str) -> bool:
        """Replace a draft; False where it is no longer what `before` says."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(sql.UPDATE_DRAFT, *_columns(after), before.survey.version) is None:
                    return False
                await _replace_questions(connection, after.survey)
                await _note(connection, actor, "update", before, after)
                return True

    async def delete_draft(self, before: CatalogueEntry, actor: str) -> bool:
        """Delete a draft; False where it is no longer what `before` says."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(sql.DELETE_DRAFT, before.survey.id, before.survey.version) is None:
                    return False
                await _note(connection, actor, "delete", before, None)
                return True

    async def freeze(self, request: FreezeSurveyInput) -> CatalogueEntry:
        """Freeze a draft for publication; frozen already, return it.

        Raises:
            DomainError: `survey_not_found`, `precondition_failed`, or `survey_invalid` where its end has passed.
        """
        expected = request.expected_version
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                before = await _locked(connection, request.survey_id)
                if await connection.fetchval(sql.FREEZE, request.survey_id, expected, request.at) is not None:
                    after = await _required(connection, request.survey_id)
                    await _note(connection, request.actor, "publish", before, after)
                    return after
                found = await _required(connection, request.survey_id)
        if found.stage is not SurveyStage.DRAFT and expected in (None, found.published_from, found.survey.version):
            return found
        if expected not in (None, found.survey.version):
            raise DomainError(ErrorCode.PRECONDITION_FAILED, "the survey changed meanwhile")
        raise DomainError(ErrorCode.SURVEY_INVALID, "finishDate: has passed")

    async def keep_keys(self, keys: SurveyKeys) -> SurveyKeys:
        """Keep the wrapped keys of a frozen survey, and write their entry; the first ones stay, and are returned."""
        row = keys.survey_id, keys.wrapped_ballot_key, keys.wrapped_eligibility_key
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                if await connection.fetchval(sql.KEEP_KEYS, *row) is not None:
                    await append(connection, AuditEntry(AuditKind.SURVEY_KEYS_MADE, _PUBLISHING, keys.survey_id))
        kept = await self.keys(keys.survey_id)
        if kept is None:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND, "no frozen survey of this id")
        return kept

    async def keys(self, survey_id: str) -> SurveyKeys | None:
        """Return the wrapped keys, or None where there are none yet."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            row = await self._pool.fetchrow(sql.KEYS, survey_id)
        if row is None:
            return None
        if not row["wrapped_ballot_key"]:
            raise DomainError(ErrorCode.KEY_DESTROYED, "the survey's retention has ended")
        return SurveyKeys(
            survey_id=survey_id,
            wrapped_ballot_key=row["wrapped_ballot_key"],
            wrapped_eligibility_key=row["wrapped_eligibility_key"],
        )

    async def open(self, request: OpenSurveyInput) -> CatalogueEntry:
        """Make a frozen survey public with its window; safe to repeat."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(sql.OPEN, request.survey_id, request.start_at, request.finish_at)
                return await _required(connection, request.survey_id)

    async def finish(self, request: FinishSurveyInput) -> CatalogueEntry:
        """Record the end of a published survey; finished already, return it."""
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                before = await _locked(connection, request.survey_id)
                done = await connection.fetchval(sql.FINISH, request.survey_id, request.start_at, request.finish_at)
                after = await _required(connection, request.survey_id)
                if done is not None and request.actor:
                    await _note(connection, request.actor, "finish", before, after)
                return after

    async def set_intake(self, request: SurveyIntake) -> CatalogueEntry:
        """Record a pause or its end; repeated, return it."""
        return await self._steer(
            request.survey_id, request.actor, "pause" if request.paused else "resume", sql.SET_INTAKE, request.paused
        )

    async def extend(self, request: ExtendSurveyInput) -> CatalogueEntry:
        """Record a later end of a published survey; repeated, return it."""
        return await self._steer(request.survey_id, request.actor, "extend", sql.EXTEND, request.finish_at)

    async def _steer(self, survey_id: str, actor: str, action: str, statement: str, wanted: object) -> CatalogueEntry:
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                before = await _locked(connection, survey_id)
                done = await connection.fetchval(statement, survey_id, wanted)
                after = await _required(connection, survey_id)
                if done is not None:
                    await _note(connection, actor, action, before, after)
                return after

    async def correct(self, request: CorrectSurveyInput) -> CatalogueEntry:
        """Correct texts of a published survey and keep what they replace; repeated, return it.

        Raises:
            DomainError: `precondition_failed`, or `survey_frozen` for any other change or stage, and for a text that
                another option has or had.
        """
        wanted = request.survey
        with unavailable_as(ErrorCode.CATALOGUE_UNAVAILABLE):
            async with self._pool.acquire() as connection, connection.transaction():
                before = await _locked(connection, wanted.id)
                check_correction(before.survey, wanted)
                done = await connection.fetchval(sql.CORRECT, wanted.id, request.expected_version, wanted.title)
                if done is not None:
                    replaced = replaced_texts(before.survey, wanted)
                    check_replacements(before.survey, (one.text for one in before.corrections), replaced)
                    await _replace_questions(connection, wanted)
                    await _keep_replaced(connection, wanted, replaced)
                after = await _required(connection, wanted.id)
                if done is not None:
                    await _note(connection, request.actor, "correct", before, after)
                    return after
        if after.survey == wanted:
            return after
        if after.stage is not SurveyStage.PUBLISHED:
            raise DomainError(ErrorCode.SURVEY_FROZEN, f"the survey is {after.stage}")
        raise DomainError(ErrorCode.PRECONDITION_FAILED, "the survey changed meanwhile")


Connection = Any  # a pooled connection; the driver's stubs name its proxy only


async def _required(connection: Connection, survey_id: str) -> CatalogueEntry:
    row = await connection.fetchrow(sql.ENTRY, survey_id)
    if row is None:
        raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
    return _entry(row)


async def _locked(connection: Connection, survey_id: str) -> CatalogueEntry:
    # Lock, then read: one statement that did both would show questions older than the row it waited for.
    await connection.execute(sql.LOCK, survey_id)
    return await _required(connection, survey_id)


async def _note(
    connection: Connection, actor: str, action: str, before: CatalogueEntry | None, after: CatalogueEntry | None
) -> None:
    one = after or before
    assert one is not None
    await note_action(connection, actor, action, one.survey.id, before=_digest(before), after=_digest(after))


def _digest(entry: CatalogueEntry | None) -> bytes | None:
    return None if entry is None else definition_digest(entry.survey)


async def _replace_questions(connection: Connection, survey: Survey) -> None:
    await connection.execute(sql.DELETE_QUESTIONS, survey.id)
    await _insert_questions(connection, survey)


async def _insert_questions(connection: Connection, survey: Survey) -> None:
    questions = [(int(q.id), q.title, q.description, q.min, q.max, q.text_max, q.order) for q in survey.questions]
    await connection.execute(sql.INSERT_QUESTIONS, survey.id, *_arrays(questions))
    options = [
        (int(option.id), int(question.id), option.text, option.image, option.order)
        for question in survey.questions
        for option in question.options
    ]
    if options:
        await connection.execute(sql.INSERT_OPTIONS, survey.id, *_arrays(options))


async def _keep_replaced(connection: Connection, survey: Survey, replaced: Sequence[ReplacedText]) -> None:
    rows = [(int(text.question or 0), int(text.option or 0), text.field, text.before, text.after) for text in replaced]
    if rows:
        await connection.execute(sql.KEEP_REPLACED, survey.id, survey.version, *_arrays(rows))


def _arrays(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _columns(entry: CatalogueEntry) -> tuple[Any, ...]:
    survey = entry.survey
    return (
        survey.id,
        survey.version,
        survey.title,
        list(survey.regions),
        survey.minimum_age,
        survey.roll_required,
        survey.visibility.value,
        survey.minimum_step,
        survey.start_at,
        survey.finish_at,
        entry.counters.question,
        entry.counters.option,
    )


def _entry(row: asyncpg.Record) -> CatalogueEntry:
    survey = Survey(
        id=row["survey_id"],
        title=row["title"],
        questions=_QUESTIONS.validate_json(row["questions"]),
        regions=tuple(row["regions"]),
        minimum_age=row["minimum_age"],
        roll_required=row["roll_required"],
        visibility=Visibility(row["visibility"]),
        minimum_step=row["minimum_step"],
        start_at=row["start_at"],
        finish_at=row["finish_at"],
        version=row["version"],
    )
    return CatalogueEntry(
        survey=survey,
        stage=SurveyStage(row["stage"]),
        counters=Counters(row["last_question_id"], row["last_option_id"]),
        published_from=row["published_from"],
        finished_from=row["finished_from"],
        is_paused=row["paused_at"] is not None,
        corrections=_CORRECTIONS.validate_json(row["corrections"]),
    )
