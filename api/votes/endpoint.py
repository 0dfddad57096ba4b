"""Casting a vote: token, proof, schema, window, seal, gateway; the one lean route of the system."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from api.http.lean import LeanRequest
from api.http.patience import patience_of
from api.votes.asking import asked, enter, is_recorded, known_survey, may_repeat, window_refusal
from api.votes.authority import VotingAuthority
from api.votes.cells import VotingCell, VotingCells
from api.votes.queue import Accepted, Confirmed, NotTaken, Verdict
from api.votes.telemetry import CastTrace, VoteTelemetry
from domain.ballots import Answer
from domain.contracts.voting import OUTCOME_ERRORS, Outcome, SealedVote
from domain.errors import DomainError, ErrorCode
from domain.submissions import SubmissionIds
from domain.tokens import VotingClaims
from integrations.postgres.voting_surveys import VotingSurvey

OVERLOADED_RETRY_AFTER_S = 1
_KEY_CHARACTERS_MAX = 255


class Ballot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole ballot at once."""

    answers: tuple[Answer, ...]


class Confirmation(msgspec.Struct, omit_defaults=True, rename="camel"):
    """The answer to a vote: `confirmed` with the receipt, or `accepted` with where to look."""

    status: str
    submission_id: str
    receipt: str = ""
    replayed: bool = False


_BALLOT = msgspec.json.Decoder(Ballot)
_JSON = msgspec.json.Encoder()


def idempotency_key(request: LeanRequest) -> bytes:
    """Return the `Idempotency-Key`, empty where none came.

    Raises:
        DomainError: `malformed_request` where it is not 1 to 255 printable ASCII characters.
    """
    key = request.get(b"idempotency-key")
    if key is None:
        return b""
    if not 0 < len(key) <= _KEY_CHARACTERS_MAX or not all(32 <= character < 127 for character in key):  # noqa: PLR2004
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "Idempotency-Key takes 1 to 255 printable ASCII characters")
    return key


def read_ballot(request: LeanRequest) -> Ballot:
    """Return the body as a ballot.

    Raises:
        DomainError: `unsupported_media_type` or `malformed_request`; neither repeats what was sent.
    """
    content_type = request.get(b"content-type")
    if content_type is None or not content_type.lower().startswith(b"application/json"):
        raise DomainError(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
    try:
        return _BALLOT.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        place = str(error).rpartition(" - at `")[2].removesuffix("`") if " - at `" in str(error) else "$"
        raise DomainError(ErrorCode.MALFORMED_REQUEST, f"the body is not a ballot, at {place}") from None


class CastVotes:
    """Takes whole ballots. Runs on the event loop without a task; the answer comes when the batch is recorded."""

    def __init__(
        self,
        authority: VotingAuthority,
        cells: VotingCells,
        telemetry: VoteTelemetry,
    ) -> None:
        self._authority = authority
        self._cells = cells
        self._telemetry = telemetry

    def vote_in_survey(self, request: LeanRequest) -> None:
        """`POST /v1/surveys/{id}/vote`."""
        self._cast(request, request.parameter)

    def vote(self, request: LeanRequest) -> None:
        """`POST /vote`: the token names the survey."""
        self._cast(request, None)

    def _cast(self, request: LeanRequest, survey_id: str | None) -> None:
        trace = self._telemetry.begin(request)
        try:
            patience_of(request)  # before anything is verified
            claims = self._authority.admit(request, survey_id)
            trace.authenticated(claims.survey_id)
            self._cells.limits[claims.cell].cast.take(request, claims.nullifier, claims.jkt or claims.device)
            cell = self._cells.of(claims.cell)
            survey = cell.surveys.peek(claims.survey_id)
            if survey is None:
                self._ask_first(request, claims, cell, trace)
                return
            self._submit(request, claims, cell, survey, trace)
        except DomainError as error:
            self._refuse(request, trace, error)

    def _ask_first(self, request: LeanRequest, claims: VotingClaims, cell: VotingCell, trace: CastTrace) -> None:
        enter(cell.gateway.intake, claims.survey_id)
        asyncio.ensure_future(self._ask_and_cast(request, claims, cell, trace))  # noqa: RUF006 - ends by itself

    async def _ask_and_cast(
        self, request: LeanRequest, claims: VotingClaims, cell: VotingCell, trace: CastTrace
    ) -> None:
        try:
            survey, repeats = await asked(
                cell.gateway.intake, claims.survey_id, lambda: self._ask(request, claims, cell)
            )
            self._submit(request, claims, cell, survey, trace, repeats=repeats)
        except DomainError as error:
            self._refuse(request, trace, error, cell, claims)
        except Exception:
            self._refuse(request, trace, DomainError(ErrorCode.INTERNAL))
            raise

    @staticmethod
    async def _ask(request: LeanRequest, claims: VotingClaims, cell: VotingCell) -> tuple[VotingSurvey, bool]:
        """Return the survey, and whether its end is no matter: the vote repeats one that is recorded."""
        survey = await known_survey(cell, claims)
        closed = window_refusal(survey)
        if closed is None:
            return survey, False
        key = idempotency_key(request)
        if may_repeat(closed, key) and await is_recorded(cell, claims, survey, key):
            return survey, True
        raise closed

    def _submit(
        self,
        request: LeanRequest,
        claims: VotingClaims,
        cell: VotingCell,
        survey: VotingSurvey,
        trace: CastTrace,
        *,
        repeats: bool = False,
    ) -> None:
        try:
            key = idempotency_key(request)
            answers = read_ballot(request).answers
            if not repeats and (closed := window_refusal(survey)) is not None:
                if not may_repeat(closed, key):
                    raise closed
                self._ask_first(request, claims, cell, trace)  # a new vote that is late costs one read, not a batch
                return
            survey.box.rules.check(answers)
            vote = sealed_vote(claims, survey, answers, key)
            wait_s = patience_of(request)
        except DomainError as error:
            self._refuse(request, trace, error, cell, claims)
            return
        trace.submitted()
        answer = self._answer(request, claims, cell, survey, trace)
        cell.gateway.submit(vote, answer, trace.kept(), caller=request, wait_s=wait_s)

    def _answer(
        self, request: LeanRequest, claims: VotingClaims, cell: VotingCell, survey: VotingSurvey, trace: CastTrace
    ) -> Callable[[Verdict], None]:
        def answer(verdict: Verdict) -> None:
            try:
                status, confirmation = confirm(verdict, claims, cell.submission_ids, survey)
            except DomainError as error:
                self._refuse(request, trace, error, cell, claims)
                return
            location = b"location: /v1/submissions/" + confirmation.submission_id.encode() + b"\r\n"
            request.respond(status, _JSON.encode(confirmation), extra_headers=location)
            trace.ended(status)
            cell.attempts.note(claims, request.client, confirmation.status)

        return answer

    @staticmethod
    def _refuse(
        request: LeanRequest,
        trace: CastTrace,
        error: DomainError,
        cell: VotingCell | None = None,
        claims: VotingClaims | None = None,
    ) -> None:
        request.respond_error(error)
        trace.ended(error.spec.status, error.code)
        if cell is not None and claims is not None:
            cell.attempts.note(claims, request.client, error.code)


def sealed_vote(claims: VotingClaims, survey: VotingSurvey, answers: Sequence[Answer], key: bytes) -> SealedVote:
    """Return checked answers as a sealed vote; `key` is the idempotency key, empty where none came."""
    return SealedVote.model_construct(
        survey_id=claims.survey_id,
        nullifier=claims.nullifier,
        evidence=claims.evidence,
        region=claims.region,
        sealed_answers=survey.seal.seal(survey.box.rules.pack(claims.region, answers)),
        key_mac=survey.seal.key_mac(key, claims.nullifier) if key else b"",
    )


def confirm(
    verdict: Verdict, claims: VotingClaims, submission_ids: SubmissionIds, survey: VotingSurvey
) -> tuple[int, Confirmation]:
    """Return the status and body that a verdict means to its voter.

    Raises:
        DomainError: the vote does not count, or nobody can tell yet.
    """
    match verdict:
        case Confirmed(submission, outcome):
            if outcome in OUTCOME_ERRORS:
                raise DomainError(OUTCOME_ERRORS[outcome])
            return 201, Confirmation(
                status="confirmed",
                submission_id=submission_ids.make(submission, claims.nullifier),
                receipt=survey.seal.receipt(claims.nullifier),
                replayed=outcome is Outcome.REPLAYED,
            )
        case Accepted(submission):
            return 202, Confirmation(status="accepted", submission_id=submission_ids.make(submission, claims.nullifier))
        case NotTaken(code):
            raise DomainError(code, retry_after_s=OVERLOADED_RETRY_AFTER_S)
