"""A survey in a cell's database, and voters who hold voting tokens for it."""

import asyncio
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import asyncpg

from domain.ballots import Answer
from domain.contracts.surveys import Option, Question, Survey
from domain.contracts.voting import SealedVote, SubmitVotesInput
from domain.eligibility import evidence_message
from domain.ids import new_survey_id
from domain.ports import KeyManagement
from domain.tokens import LIFETIME_S, VOTING, Confirmation, VotingWire
from integrations.keys import base64url
from integrations.keys.opening import open_keys
from integrations.keys.purposes import EVIDENCE, KEK_BALLOT, VOTING_TOKEN
from integrations.keys.signing import Ed25519Signer
from integrations.keys.tokens import TokenIssuer
from integrations.postgres.ledger import PostgresLedger
from integrations.postgres.voting_surveys import VotingSurvey, VotingSurveys
from integrations.settings import Settings

REGION = "ward-1"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def small_survey(**fields: Any) -> Survey:
    """Return a fresh survey: question 1 takes one of three options, question 2 any of two, and a text."""
    questions = (
        Question(
            id="1",
            title="Which one?",
            min=1,
            max=1,
            order=0,
            options=tuple(Option(id=str(n), text=f"Option {n}") for n in (1, 2, 3)),
        ),
        Question(
            id="2",
            title="Which others?",
            min=0,
            max=2,
            order=1,
            options=tuple(Option(id=str(n), text=f"Option {n}") for n in (4, 5)),
            text_max=20,
        ),
    )
    return Survey(
        **{"id": new_survey_id(), "title": "A survey", "questions": questions, "regions": (REGION,), **fields}
    )


def voting_keys(settings: Settings) -> KeyManagement:
    """Return the keys of everything around votes."""
    return open_keys(settings, KEK_BALLOT, VOTING_TOKEN, EVIDENCE, "in-flight", "submission", "pseudonym")


async def install(
    owner: asyncpg.Pool,
    keys: KeyManagement,
    survey: Survey,
    *,
    start_at: datetime | None = LONG_AGO,
    finish_at: datetime | None = None,
) -> None:
    """Put a survey into a cell, open since long ago unless told otherwise."""
    key = await keys.generate_data_key(KEK_BALLOT, survey.id)
    await owner.execute(
        "INSERT INTO voting.survey (survey_id, definition, wrapped_ballot_key, start_at, finish_at) "
        "VALUES ($1, $2::jsonb, $3, $4, $5)",
        survey.id,
        survey.model_dump_json(),
        key.wrapped,
        start_at,
        finish_at,
    )


@dataclass(frozen=True)
class Booth:
    """One installed survey of a cell, its ledger, and what voters need."""

    cell: str
    survey: Survey
    pool: asyncpg.Pool
    ledger: PostgresLedger
    known: VotingSurvey

    def vote(self, *answers: Answer, nullifier: bytes | None = None, **fields: Any) -> SealedVote:
        """Return a sealed vote of a new voter, or of the one behind a nullifier; answers are not checked."""
        region = fields.pop("region", REGION)
        packed = self.known.box.rules.pack(region, answers or (Answer("1", ("1",)),))
        return SealedVote(
            **{
                "survey_id": self.survey.id,
                "nullifier": nullifier or secrets.token_bytes(32),
                "evidence": secrets.token_bytes(64),
                "region": region,
                "sealed_answers": self.known.seal.seal(packed),
                **fields,
            }
        )

    async def batch(self, *votes: SealedVote, number: int = 1) -> SubmitVotesInput:
        """Return a batch of a fresh gateway that the ledger knows."""
        gateway_id = secrets.token_bytes(16)
        await self.ledger.register_gateway(gateway_id, "test", 1)
        return SubmitVotesInput(cell=self.cell, gateway_id=gateway_id, number=number, votes=votes)

    async def counts(self) -> dict[str, int]:
        """Return how many participations and ballots the ledger has, and what its batches count."""
        row = await self.pool.fetchrow(
            "SELECT (SELECT count(*) FROM voting.participation WHERE survey_id = $1) AS participations, "
            "(SELECT count(*) FROM voting.ballot WHERE survey_id = $1) AS ballots, "
            "(SELECT coalesce(sum(ballots), 0) FROM voting.batch_count WHERE survey_id = $1) AS counted",
            self.survey.id,
        )
        assert row is not None
        return {name: int(value) for name, value in row.items()}

    async def settled(self, expected: int) -> dict[str, int]:
        """Return the counts once so many participations are recorded: what was accepted may be recorded later."""
        async with asyncio.timeout(30):
            while (await self.counts())["participations"] < expected:
                await asyncio.sleep(0.1)
        return await self.counts()


class OpenBooth(Protocol):
    """`open_booth` in a cell of the test's."""

    async def __call__(
        self,
        survey: Survey | None = None,
        *,
        start_at: datetime | None = LONG_AGO,
        finish_at: datetime | None = None,
    ) -> Booth: ...


async def open_booth(
    cell: str,
    pool: asyncpg.Pool,
    owner: asyncpg.Pool,
    keys: KeyManagement,
    survey: Survey | None = None,
    *,
    start_at: datetime | None = LONG_AGO,
    finish_at: datetime | None = None,
) -> Booth:
    """Install a survey and return its booth."""
    survey = survey or small_survey()
    await install(owner, keys, survey, start_at=start_at, finish_at=finish_at)
    surveys = VotingSurveys(pool, keys)
    known = await surveys.get(survey.id)
    assert known is not None
    return Booth(cell, survey, pool, PostgresLedger(pool, surveys), known)


class TokenDesk:
    """Issues voting tokens as admission does, to whoever a test makes up."""

    def __init__(self, keys: KeyManagement) -> None:
        self._tokens = Ed25519Signer(keys, VOTING_TOKEN)
        self._evidence = Ed25519Signer(keys, EVIDENCE)
        self._issuer = TokenIssuer(self._tokens, VOTING)

    async def open(self) -> None:
        """Read the keys."""
        await self._tokens.refresh()
        await self._evidence.refresh()

    def token(
        self,
        survey_id: str,
        cell: str,
        *,
        nullifier: bytes | None = None,
        region: str = REGION,
        jkt: str | None = None,
        age: timedelta = timedelta(0),
        issuer: TokenIssuer | None = None,
        **claims: Any,
    ) -> str:
        """Return a voting token; `claims` replace what it says."""
        nullifier = nullifier or secrets.token_bytes(32)
        now = int(time.time() - age.total_seconds())
        evidence = self._evidence.sign(evidence_message(survey_id, nullifier, cell, region))
        wire = {
            "iss": VOTING.issuer,
            "aud": VOTING.audience,
            "scope": VOTING.scope,
            "iat": now,
            "exp": now + LIFETIME_S,
            "cnf": None if jkt is None else Confirmation(jkt),
            "survey": survey_id,
            "nullifier": base64url.encode(nullifier).decode(),
            "cell": cell,
            "region": region,
            "evidence": base64url.encode(evidence).decode(),
            **claims,
        }
        return (issuer or self._issuer).sign(VotingWire(**wire))
