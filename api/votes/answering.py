"""Step-by-step answers: a session of choices that ends in a vote through the same gateway."""

import asyncio
import time
from contextlib import suppress

from api.votes.asking import asked, enter, is_recorded, known_survey, window_refusal
from api.votes.cells import VotingCell, VotingCells
from api.votes.endpoint import confirm, sealed_vote
from api.votes.queue import Confirmed, NotTaken, Verdict
from domain.answer_sessions import Choice, add_choice, ballot_of
from domain.contracts.voting import Outcome
from domain.errors import DomainError, ErrorCode
from domain.tokens import VotingClaims
from integrations.deadlines import current_deadline
from integrations.postgres.answer_sessions import AnswerSession, AnswerSessions
from integrations.postgres.voting_surveys import VotingSurvey
from integrations.telemetry.span_names import SpanName
from integrations.telemetry.tracing import kept_context, timed


class Answering:
    """Keeps sessions until they are finished."""

    def __init__(self, cells: VotingCells) -> None:
        self._cells = cells

    async def answer(
        self, claims: VotingClaims, choice: Choice, session_id: str | None
    ) -> tuple[AnswerSession, int, bool]:
        """Add a choice to a session, or to a new one; return it, the choice's number, and whether it is new.

        Raises:
            DomainError: a rule of the survey, its window, `answer_session_not_found`, `answer_session_finished`,
                `overloaded` where the survey must be read first and too many votes wait.
        """
        survey = await self._survey(claims)
        if (closed := window_refusal(survey)) is not None:
            raise closed
        sessions = self._cells.of(claims.cell).sessions
        if session_id is None:
            choices, number = add_choice(survey.box.rules, (), choice)
            return await sessions.create(claims.survey_id, claims.nullifier, choices), number, True
        number = 0

        def change(choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
            nonlocal number
            choices, number = add_choice(survey.box.rules, choices, choice)
            return choices

        session = await sessions.change(session_id, claims.survey_id, claims.nullifier, change)
        return session, number, False

    async def finish(self, claims: VotingClaims, session_id: str, client: str) -> tuple[AnswerSession, str]:
        """Cast the session's ballot; return the session and the submission's id, empty where it was finished before.

        Safe to repeat, also after the end: the session's id is the vote's idempotency key. `finished_at` is None
        while the vote is accepted and not yet confirmed. `client` is the address that asks: each time is an attempt.

        Raises:
            DomainError: a rule of the survey, its window, `overloaded` or `cell_unavailable` (the session is then as
                it was); `already_voted` or `vote_refused` (it is gone); `outcome_unknown`.
        """
        cell = self._cells.of(claims.cell)
        try:
            session, submission_id = await self._finish(cell, claims, session_id)
        except DomainError as error:
            cell.attempts.note(claims, client, error.code)
            raise
        cell.attempts.note(claims, client, "accepted" if session.finished_at is None else "confirmed")
        return session, submission_id

    async def _finish(self, cell: VotingCell, claims: VotingClaims, session_id: str) -> tuple[AnswerSession, str]:
        sessions = cell.sessions
        survey = await self._survey(claims)
        if (closed := window_refusal(survey)) is not None:
            return await self._finished_before(cell, claims, survey, session_id, closed), ""
        if not cell.gateway.intake.takes(claims.survey_id):
            raise DomainError(ErrorCode.OVERLOADED)
        session = await sessions.freeze(session_id, claims.survey_id, claims.nullifier, survey.box.rules)
        if session.finished_at is not None:
            return session, ""
        vote = sealed_vote(claims, survey, ballot_of(session.choices), session_id.encode())
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        cell.gateway.submit(
            vote,
            lambda found: None if verdict.done() else verdict.set_result(found),
            kept_context(),
            wait_s=current_deadline() - time.monotonic(),
        )
        with timed(SpanName.PERSIST_VOTE):
            found = await verdict
        try:
            status, confirmation = confirm(found, claims, cell.submission_ids, survey)
        except DomainError:
            with suppress(DomainError):  # it makes room in time; its voter hears of the vote
                await _let_go(sessions, session, found)
            raise
        if status == 201:  # noqa: PLR2004 - Created: recorded
            return session.finished(await sessions.finish(session_id)), confirmation.submission_id
        return session, confirmation.submission_id

    @staticmethod
    async def _finished_before(
        cell: VotingCell, claims: VotingClaims, survey: VotingSurvey, session_id: str, closed: DomainError
    ) -> AnswerSession:
        """Return a session whose vote is recorded, whether or not its voter was told; raise `closed` for any other."""
        session = await cell.sessions.look(session_id, claims.survey_id, claims.nullifier)
        if session is None:
            raise closed
        if session.finished_at is not None:
            return session
        if not await is_recorded(cell, claims, survey, session_id.encode()):
            raise closed
        return session.finished(await cell.sessions.finish(session_id))

    async def _survey(self, claims: VotingClaims) -> VotingSurvey:
        cell = self._cells.of(claims.cell)
        survey = cell.surveys.peek(claims.survey_id)
        if survey is None:
            enter(cell.gateway.intake, claims.survey_id)
            survey = await asked(cell.gateway.intake, claims.survey_id, lambda: known_survey(cell, claims))
        return survey


async def _let_go(sessions: AnswerSessions, session: AnswerSession, refused: Verdict) -> None:
    """Leave nothing behind of a session whose vote was refused for good; give back one that was refused for now.

    After the end both are left to the purge: another call's vote for the same session may still be recorded.
    """
    match refused:
        case Confirmed(_, Outcome.SURVEY_CLOSED | Outcome.SURVEY_NOT_OPEN) | NotTaken(ErrorCode.OUTCOME_UNKNOWN):
            return
        case Confirmed():
            await sessions.remove(session.session_id)
        case NotTaken():
            await sessions.thaw(session)
