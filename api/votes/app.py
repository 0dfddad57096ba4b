"""The application of the votes service: what is documented here is answered by the lean route or by these."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from api.http.application import problem_responses
from api.http.lean import LeanRoute
from api.http.limits import FrameworkRequest
from api.http.models import ApiModel, QueryText, Timestamp
from api.http.shedding import Gate
from api.votes.answering import Answering
from api.votes.authority import VotingAuthority
from api.votes.cells import VotingCells
from api.votes.endpoint import CastVotes
from api.votes.receipts import Receipts
from api.votes.submissions import Submissions
from api.votes.telemetry import VoteTelemetry
from domain.answer_sessions import Choice
from domain.contracts.voting import OUTCOME_ERRORS
from domain.errors import ErrorCode
from domain.priorities import Work
from domain.tokens import VotingClaims
from integrations.postgres.answer_sessions import AnswerSession

_TOKEN_ERRORS = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.TOKEN_INVALID,
    ErrorCode.TOKEN_EXPIRED,
    ErrorCode.PROOF_INVALID,
    ErrorCode.FORBIDDEN,
    ErrorCode.WRONG_CELL,
    ErrorCode.SURVEY_NOT_FOUND,
    ErrorCode.RATE_LIMITED,
)
_BALLOT_ERRORS = (
    ErrorCode.SURVEY_NOT_OPEN,
    ErrorCode.SURVEY_CLOSED,
    ErrorCode.SURVEY_PAUSED,
    ErrorCode.QUESTION_UNKNOWN,
    ErrorCode.OPTION_UNKNOWN,
    ErrorCode.TOO_MANY_OPTIONS,
    ErrorCode.TEXT_NOT_ALLOWED,
    ErrorCode.LEDGER_UNAVAILABLE,
)
_CAST_ERRORS = (
    *_TOKEN_ERRORS,
    *_BALLOT_ERRORS,
    ErrorCode.QUESTION_REPEATED,
    ErrorCode.OPTION_REPEATED,
    ErrorCode.TOO_FEW_OPTIONS,
    ErrorCode.TEXT_TOO_LONG,
    ErrorCode.ALREADY_VOTED,
    ErrorCode.VOTE_REFUSED,
    ErrorCode.OVERLOADED,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.OUTCOME_UNKNOWN,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
)
_RECEIPT: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/json": {"schema": {"type": "object"}}},
        "description": "The proof, for `comitia verify receipt`.",
    }
}
_ID = Annotated[QueryText, Path(max_length=64)]


class AnswerBody(ApiModel):
    """The options chosen in one question."""

    question: str = Field(max_length=64)
    options: list[str] = Field(default_factory=list)
    text: str = ""


class BallotBody(ApiModel):
    """The whole ballot at once."""

    answers: list[AnswerBody]


class ConfirmationBody(ApiModel):
    """`confirmed` with the receipt (201), or `accepted` (202): then the submission says when it is confirmed."""

    status: str
    submission_id: str
    receipt: str | None = None
    replayed: bool | None = None


class SubmissionBody(ConfirmationBody):
    """The stage of a submission: `accepted`, `confirmed`, or `refused` with the code that says why."""

    code: str | None = None


class AnswerStepBody(ApiModel):
    """One option or text; the first answer opens a session, later ones name it."""

    survey_answer_id: str | None = Field(default=None, max_length=64)
    question: str = Field(max_length=64)
    option: str | None = Field(default=None, max_length=64)
    text: str = Field(default="", max_length=2000)


class SurveyAnswerBody(ApiModel):
    """An answer session."""

    id: str
    survey: str
    initialized: Timestamp
    finished: Timestamp | None


class QuestionAnswerBody(ApiModel):
    """One answer of a session."""

    id: str
    survey_answer: str
    question: str
    option: str | None
    text: str


class FirstAnswerBody(ApiModel):
    """A new session with its first answer."""

    survey_answer: SurveyAnswerBody
    question_answer: QuestionAnswerBody


class _AsgiRequest(FrameworkRequest):
    """A request of the framework in the form that the authority takes."""

    def __init__(self, request: Request, body: bytes) -> None:
        super().__init__(request)
        self.headers: list[tuple[bytes, bytes]] = request.scope["headers"]
        self.method = request.method
        self.path: bytes = request.scope["raw_path"]
        self.body = body


async def _signed(request: Request) -> _AsgiRequest:
    return _AsgiRequest(request, await request.body())


Signed = Annotated[_AsgiRequest, Depends(_signed)]
VotingToken = Annotated[
    str | None,
    Header(alias="Authorization", description="`Bearer` and the voting token, or `DPoP` where it is bound to a key"),
]
IdempotencyKey = Annotated[
    str | None, Header(description="the same key gets the first answer again; 1 to 255 printable ASCII characters")
]


def lean_routes(cast: CastVotes, gate: Gate) -> list[LeanRoute]:
    """Return the routes that are answered without the framework."""
    return [
        LeanRoute("POST", "/v1/surveys/{id}/vote", cast.vote_in_survey, work=Work.VOTE, gate=gate),
        LeanRoute("POST", "/vote", cast.vote, work=Work.VOTE, gate=gate),
    ]


def add_routes(
    app: FastAPI,
    authority: VotingAuthority,
    cells: VotingCells,
    answering: Answering,
    *,
    submissions: Submissions,
    receipts: Receipts,
    telemetry: VoteTelemetry,
) -> None:
    """Add the service's routes to its application."""
    app.include_router(_casting_router())
    app.include_router(_answering_router(authority, cells, answering, telemetry))
    app.include_router(_submissions_router(authority, cells, submissions, receipts))


def _casting_router() -> APIRouter:
    """Document the lean routes; a server that serves them never comes here."""
    router = APIRouter(tags=["votes"])
    responses: dict[int | str, dict[str, Any]] = {
        202: {"model": ConfirmationBody, "description": "accepted: durable, not yet recorded"},
        **problem_responses(*_CAST_ERRORS),
    }

    @router.post("/v1/surveys/{id}/vote", status_code=201, responses=responses, summary="Cast a whole ballot")
    async def vote_in_survey(
        id: _ID,  # noqa: A002 - the name in the address
        body: BallotBody,
        authorization: VotingToken = None,
        idempotency_key: IdempotencyKey = None,
    ) -> ConfirmationBody:
        raise LookupError("the lean route serves this")

    @router.post(
        "/vote", status_code=201, responses=responses, summary="Cast a whole ballot; the token names the survey"
    )
    async def vote(
        body: BallotBody, authorization: VotingToken = None, idempotency_key: IdempotencyKey = None
    ) -> ConfirmationBody:
        raise LookupError("the lean route serves this")

    return router


def _session_body(session: AnswerSession) -> SurveyAnswerBody:
    return SurveyAnswerBody(
        id=session.session_id,
        survey=session.survey_id,
        initialized=_whole_second(session.initialized_at),
        finished=None if session.finished_at is None else _whole_second(session.finished_at),
    )


def _whole_second(at: datetime) -> datetime:
    return at.replace(microsecond=0)


def _answering_router(
    authority: VotingAuthority, cells: VotingCells, answering: Answering, telemetry: VoteTelemetry
) -> APIRouter:
    router = APIRouter(prefix="/v1/surveys/{id}/answers", tags=["answers"])

    async def answering_voter(
        id: _ID,  # noqa: A002 - the name in the address
        signed: Signed,
        authorization: VotingToken = None,
    ) -> VotingClaims:
        """Return whose token it is, before what they send is looked at; answers are counted for them."""
        claims = await authority.admit_once(signed, id)
        cells.limits[claims.cell].answer.take(signed, claims.nullifier, claims.jkt or claims.device)
        return claims

    session_errors = (ErrorCode.ANSWER_SESSION_NOT_FOUND, ErrorCode.ANSWER_SESSION_FINISHED)

    @router.post(
        "",
        status_code=201,
        responses=problem_responses(*_TOKEN_ERRORS, *_BALLOT_ERRORS, *session_errors),
        summary="Answer one question of a session; the first answer opens it",
    )
    async def answer(
        body: AnswerStepBody, claims: Annotated[VotingClaims, Depends(answering_voter)]
    ) -> FirstAnswerBody | QuestionAnswerBody:
        choice = Choice(body.question, body.option, body.text)
        session, number, new = await answering.answer(claims, choice, body.survey_answer_id)
        given = QuestionAnswerBody(
            id=str(number),
            survey_answer=session.session_id,
            question=body.question,
            option=body.option,
            text=body.text,
        )
        return FirstAnswerBody(survey_answer=_session_body(session), question_answer=given) if new else given

    @router.put(
        "/{answer_id}/finish",
        responses={
            202: {"model": SurveyAnswerBody, "description": "accepted: durable, not yet recorded"},
            **problem_responses(*_CAST_ERRORS, *session_errors),
        },
        summary="Finish a session: its ballot is cast",
    )
    async def finish(
        id: _ID,  # noqa: A002 - the name in the address
        answer_id: _ID,
        signed: Signed,
        response: Response,
        authorization: VotingToken = None,
    ) -> SurveyAnswerBody:
        with telemetry.finishing() as finished:
            claims = authority.admit(signed, id)
            cells.limits[claims.cell].cast.take(signed, claims.nullifier, claims.jkt or claims.device)
            session, submission_id = await answering.finish(claims, answer_id, signed.client)
            finished.is_confirmed = session.finished_at is not None
        if submission_id:
            response.headers["location"] = f"/v1/submissions/{submission_id}"
        if session.finished_at is None:
            response.status_code = 202
        return _session_body(session)

    return router


def _submissions_router(
    authority: VotingAuthority, cells: VotingCells, submissions: Submissions, receipts: Receipts
) -> APIRouter:
    router = APIRouter(prefix="/v1/submissions", tags=["submissions"])

    async def looking(signed: _AsgiRequest) -> VotingClaims:
        """Return whose token it is; looks are counted for them."""
        claims = await authority.admit_once(signed, None)
        cells.limits[claims.cell].look.take(signed, claims.nullifier, claims.jkt or claims.device)
        return claims

    @router.get(
        "/{id}",
        response_model=SubmissionBody,
        responses=problem_responses(
            *_TOKEN_ERRORS,
            ErrorCode.SUBMISSION_NOT_FOUND,
            ErrorCode.LEDGER_UNAVAILABLE,
            ErrorCode.WORKFLOWS_UNAVAILABLE,
        ),
        summary="The stage of one's own submission, and its receipt",
    )
    async def read(
        id: _ID,  # noqa: A002 - the name in the address
        signed: Signed,
        authorization: VotingToken = None,
    ) -> Response:
        return JSONResponse(await submissions.read(id, await looking(signed)))

    @router.get(
        "/{id}/proof",
        response_class=Response,
        responses={
            **_RECEIPT,
            **problem_responses(
                *_TOKEN_ERRORS,
                *OUTCOME_ERRORS.values(),
                ErrorCode.SUBMISSION_NOT_FOUND,
                ErrorCode.NOT_SEALED_YET,
                ErrorCode.OVERLOADED,
                ErrorCode.LEDGER_UNAVAILABLE,
                ErrorCode.WORKFLOWS_UNAVAILABLE,
                ErrorCode.OBJECTS_UNAVAILABLE,
                ErrorCode.KEY_UNAVAILABLE,
                ErrorCode.AUDIT_LOG_CONTRADICTED,
            ),
        },
        summary="The proof that one's own participation is recorded",
    )
    async def prove(
        id: _ID,  # noqa: A002 - the name in the address
        signed: Signed,
        authorization: VotingToken = None,
    ) -> Response:
        """Answer with the way from the participation to a signed tree head of the cell's audit log, and no choice."""
        return Response(
            await receipts.prove(id, await looking(signed)),
            media_type="application/json",
            headers={"Cache-Control": "private, no-store"},
        )

    return router
