"""Where one cell's voters are admitted: whoever asks at once is looked up together and answered one by one."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Protocol

import structlog

from api.eligibility.voting_tokens import VotingToken, VotingTokens
from api.http.used_proofs import CellProofs, proof_used_before
from domain.eligibility import Asked, Candidate, Electorate, Electorates, VoterDirectory, admit
from domain.errors import DomainError, ErrorCode
from domain.ports import AdmissionAttempt, BroughtEvent, RiskDecision, RiskVerdict, VoteRisk
from domain.pseudonyms import pseudonym
from domain.tokens import VoterClaims
from domain.vote_risk import VoteReason
from integrations.keys import base64url
from integrations.telemetry.span_names import SpanName

GROUP_MAX = 64  # looked up together; more would hold the loop for longer than a quick answer may take
GROUPS_IN_FLIGHT = 2
WAITING_MAX = 5_000
RISK_LIMIT_S = 1.0  # of a port that hangs; ours keeps a limit of its own, much shorter than a busy machine's pauses
OVERLOADED_RETRY_AFTER_S = 1
_NO_ANSWER = RiskVerdict(RiskDecision.CHALLENGE, 0, 0)  # risk that does not answer is never a yes

log = structlog.get_logger()


class Trace(Protocol):
    """The trace of one request; times are `time.perf_counter()`."""

    @property
    def trace_id(self) -> str:
        """Return what log lines call it, in hexadecimal."""
        ...

    def step(self, name: str, started_at: float, ended_at: float) -> None:
        """Remember a step that is over."""
        ...

    def flag(self) -> None:
        """Keep this trace: the request looks like fraud."""
        ...


@dataclass(frozen=True, slots=True)
class Application:
    """One voter's request for a voting token, token and binding already checked; `network` is the client's.

    `proof` names the proof of the binding where there is one: other processes may have seen it. `event` is what the
    device event came to that the request brought.
    """

    survey_id: str
    claims: VoterClaims
    network: str
    trace: Trace
    is_wanted: Callable[[], bool] = lambda: True  # whether somebody still waits for the answer
    proof: bytes = b""
    event: BroughtEvent | None = None


Answer = Callable[[VotingToken | DomainError], None]


class DeskTelemetry(Protocol):
    """What admission shows of itself."""

    def looked_up(self, seconds: float) -> None:
        """The directory answered for a group."""
        ...

    def judged(self, verdict: RiskVerdict, seconds: float) -> None:
        """Risk answered for one application."""
        ...

    def risk_absent(self, applications: int) -> None:
        """Risk did not answer for so many applications in time."""
        ...


class Desk:
    """Admits the voters of one cell; bounded in what waits and in what runs."""

    def __init__(
        self,
        cell: str,
        *,
        directory: VoterDirectory,
        electorates: Electorates,
        risk: VoteRisk,
        used: CellProofs,
        tokens: VotingTokens,
        pseudonym_key: bytes,
        telemetry: DeskTelemetry,
        now: Callable[[], float] = time.time,
        waiting_max: int = WAITING_MAX,
        risk_limit_s: float = RISK_LIMIT_S,
    ) -> None:
        self._cell = cell
        self._directory = directory
        self._electorates = electorates
        self._risk = risk
        self._used = used
        self._tokens = tokens
        self._pseudonym_key = pseudonym_key
        self._telemetry = telemetry
        self._now = now
        self._waiting_max = waiting_max
        self._risk_limit_s = risk_limit_s
        self._waiting: deque[tuple[Application, Answer]] = deque()
        self._running: set[asyncio.Task[None]] = set()  # keeps them from being collected
        self._serving = 0

    def submit(self, application: Application, answer: Answer) -> None:
        """Take an application; `answer` is called once, later, on the event loop.

        Raises:
            DomainError: `overloaded`; too many wait already.
        """
        if len(self._waiting) >= self._waiting_max:
            raise DomainError(ErrorCode.OVERLOADED, retry_after_s=OVERLOADED_RETRY_AFTER_S)
        self._waiting.append((application, answer))
        self._serve_more()

    def waiting(self) -> int:
        """Applications that wait."""
        return len(self._waiting)

    def _serve_more(self) -> None:
        if self._waiting and self._serving < GROUPS_IN_FLIGHT:
            self._serving += 1
            task = asyncio.create_task(self._serve())
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _serve(self) -> None:
        try:
            while self._waiting:
                group = self._next_group()
                if group:
                    await self._serve_group(group)
        finally:
            # Counted down in the step that found nothing waiting: whoever comes next starts a task of his own.
            self._serving -= 1
            self._serve_more()

    def _next_group(self) -> list[tuple[Application, Answer]]:
        """Take up to a group of those who wait; who no longer does is left out and told so."""
        group: list[tuple[Application, Answer]] = []
        while self._waiting and len(group) < GROUP_MAX:
            application, answer = self._waiting.popleft()
            if application.is_wanted():
                group.append((application, answer))
            else:
                answer(DomainError(ErrorCode.DEADLINE_EXCEEDED))
        return group

    async def _serve_group(self, group: Sequence[tuple[Application, Answer]]) -> None:
        try:
            results = await self._decide([application for application, _ in group])
        except DomainError as error:
            results = [error] * len(group)
        except BaseException:
            for _, answer in group:
                answer(DomainError(ErrorCode.INTERNAL))
            raise
        for (_, answer), result in zip(group, results, strict=True):
            answer(result)

    async def _decide(self, applications: Sequence[Application]) -> list[VotingToken | DomainError]:
        surveys = await self._surveys({application.survey_id for application in applications})
        candidates, first_uses = await asyncio.gather(self._look_up(applications), self._use_proofs(applications))
        verdicts = await self._assess(applications, candidates)
        now = self._now()
        return [
            self._result(application, surveys[application.survey_id], candidate, verdict, now)
            if is_first_use
            else proof_used_before()
            for application, candidate, verdict, is_first_use in zip(
                applications, candidates, verdicts, first_uses, strict=True
            )
        ]

    def _result(
        self,
        application: Application,
        electorate: Electorate | DomainError | None,
        candidate: Candidate | None,
        verdict: RiskVerdict,
        now: float,
    ) -> VotingToken | DomainError:
        if isinstance(electorate, DomainError):
            return electorate
        try:
            person_id = admit(candidate, electorate, datetime.fromtimestamp(now, UTC))
        except DomainError as error:
            return error
        assert candidate is not None
        assert electorate is not None
        if verdict.decision is not RiskDecision.ALLOW:
            return DomainError(_refusal(verdict))
        claims = application.claims
        return self._tokens.issue(
            electorate, person_id, self._cell, candidate.region, device=claims.device, jkt=claims.jkt, now=now
        )

    async def _surveys(self, survey_ids: set[str]) -> dict[str, Electorate | DomainError | None]:
        found: dict[str, Electorate | DomainError | None] = {}
        for survey_id in survey_ids:
            try:
                found[survey_id] = await self._electorates.get(survey_id)
            except DomainError as error:
                found[survey_id] = error
        return found

    async def _use_proofs(self, applications: Sequence[Application]) -> list[bool]:
        """Return whose proof no process has seen before; who has none needs none."""
        proofs = [one.proof for one in applications if one.proof]
        is_new = iter(await self._used.use(proofs) if proofs else ())
        return [not one.proof or next(is_new) for one in applications]

    async def _look_up(self, applications: Sequence[Application]) -> Sequence[Candidate | None]:
        began = perf_counter()
        candidates = await self._directory.candidates([_asked(one) for one in applications])
        ended = perf_counter()
        self._telemetry.looked_up(ended - began)
        for application in applications:
            application.trace.step(SpanName.CHECK_ELIGIBILITY, began, ended)
        return candidates

    async def _assess(
        self, applications: Sequence[Application], candidates: Sequence[Candidate | None]
    ) -> Sequence[RiskVerdict]:
        now = self._now()
        attempts = [self._attempt(one, found, now) for one, found in zip(applications, candidates, strict=True)]
        began = perf_counter()
        verdicts = await self._verdicts(attempts)
        if verdicts is None:
            self._telemetry.risk_absent(len(applications))
            return [_NO_ANSWER] * len(applications)
        ended = perf_counter()
        for application, attempt, verdict in zip(applications, attempts, verdicts, strict=True):
            self._telemetry.judged(verdict, ended - began)
            application.trace.step(SpanName.CHECK_VOTE, began, ended)
            if verdict.decision is not RiskDecision.ALLOW:
                application.trace.flag()
            if verdict.decision is RiskDecision.DENY:
                log.warning(
                    "admission_denied_for_risk",
                    trace_id=application.trace.trace_id,  # a group has many: none is the current one
                    election_id=attempt.survey_id,
                    voter_id=attempt.voter_pseudonym.hex(),
                    score_permille=verdict.score_permille,
                    policy_version=verdict.policy_version,
                    reasons=list(verdict.reasons),
                )
        return verdicts

    async def _verdicts(self, attempts: Sequence[AdmissionAttempt]) -> Sequence[RiskVerdict] | None:
        """Return what risk says within its limit, or None.

        The limit is waited for in two halves: a pause of this very process ends the first at once and leaves the
        second, so that a busy machine sends no voter to a step-up whose verdict is already here.
        """
        assessing = asyncio.ensure_future(self._risk.assess(attempts))
        try:
            for _ in range(2):
                await asyncio.wait({assessing}, timeout=self._risk_limit_s / 2)
            return assessing.result() if assessing.done() else None
        except DomainError:
            return None
        finally:
            assessing.cancel()

    def _attempt(self, application: Application, candidate: Candidate | None, now: float) -> AdmissionAttempt:
        key, claims = self._pseudonym_key, application.claims
        return AdmissionAttempt(
            application.survey_id,
            pseudonym(key, "voter", claims.sub),
            pseudonym(key, "device", claims.device) if claims.device else None,
            pseudonym(key, "network", application.network),
            claims.risk,
            frozenset() if candidate is None else candidate.device_flags,
            _unseen_for(claims, candidate, now),
            application.event,
        )


def _unseen_for(claims: VoterClaims, candidate: Candidate | None, now: float) -> timedelta | None:
    """Return how long ago the session's device was seen, if a login has read one: only tokens with a key name such."""
    if not (claims.device and claims.jkt):
        return None
    seen_at = None if candidate is None else candidate.device_seen_at
    return timedelta.max if seen_at is None else datetime.fromtimestamp(now, UTC) - seen_at


def _asked(application: Application) -> Asked:
    """Return whom the directory is asked for; a device that is no keyed hash of ours is none."""
    claims = application.claims
    try:
        device = base64url.decode(claims.device.encode()) if claims.device else None
    except ValueError:
        device = None
    return Asked(claims.sub, application.survey_id, device)


def _refusal(verdict: RiskVerdict) -> ErrorCode:
    if verdict.decision is not RiskDecision.DENY:
        return ErrorCode.STEP_UP_REQUIRED
    refused = VoteReason.DEVICE_REFUSED in verdict.reasons
    return ErrorCode.DEVICE_REFUSED if refused else ErrorCode.RISK_DENIED
