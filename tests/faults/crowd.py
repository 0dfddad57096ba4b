"""Voters with real ballot papers who vote over HTTP at a bounded rate, and who write down every answer."""

import asyncio
import contextlib
import itertools
import random
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comitia.demo.client import Answer, HttpClient, NoAnswerError
from comitia.demo.survey import PublishedElection, problem_code, retry_after
from comitia.demo.voters import Habit, Voter
from integrations.keys import base64url
from integrations.keys.access_tokens import AccessTokens
from tests.end_to_end.house import claims_of, nullifier_of
from tests.faults.notes import ACCEPTED, CLOSED, CONFIRMED, NO_ANSWER, Asked, Learnt, Notebook, Said

ANSWER_WITHIN_S = 6.0  # then the client asks another process, as behind any balancer
_PATIENCE_S = 90.0  # of one voter, outages included
_COME_BACK_S, _COME_BACK_MAX_S = 0.1, 3.0  # doubled with every try in vain, and spread


@dataclass(frozen=True, slots=True)
class Doors:
    """Addresses: the processes that take votes by name, and the one that gives voting tokens."""

    votes: Mapping[str, str]
    eligibility: str


class Crowd:
    """Lets voters vote, one after the other at `rate` per second, each until there is an outcome.

    `unserved` are those who had none within their patience, `surprises` are answers that nobody should get.
    """

    def __init__(
        self,
        doors: Doors,
        survey: PublishedElection,
        access: AccessTokens,
        notebook: Notebook,
        *,
        patience_s: float = _PATIENCE_S,
        closing: bool = False,
    ) -> None:
        """`closing` is a survey that ends while they vote: then it is an outcome to hear that it is closed."""
        self._survey = survey
        self._access = access
        self._notebook = notebook
        self._patience_s = patience_s
        self._refused = {"already_voted", CLOSED} if closing else {"already_voted"}
        self._votes = {name: HttpClient(url) for name, url in doors.votes.items()}
        self._eligibility = HttpClient(doors.eligibility)
        self._turn = itertools.cycle(doors.votes)
        self._numbers = itertools.count()
        self._voting: set[asyncio.Task[None]] = set()
        self.confirmed = 0
        self.unserved = 0
        self.surprises: list[str] = []

    @property
    def waiting(self) -> int:
        """Voters who have no outcome yet."""
        return len(self._voting)

    async def come(self, voters: Iterable[Voter], rate: float, stop: asyncio.Event, *, at_once: int) -> None:
        """Send voters in until `stop` is set or none is left; return without waiting for their outcomes.

        While `at_once` of them wait for an outcome, nobody else comes: the load is bounded however slow the answers.
        """
        due = time.monotonic()
        for voter in voters:
            due += 1 / rate
            while not stop.is_set() and ((late := due - time.monotonic()) > 0 or self.waiting >= at_once):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(late, 1 / rate)):
                        await stop.wait()
            if stop.is_set():
                return
            due = max(due, time.monotonic() - 1)  # what was held back is not made up for in a rush
            task = asyncio.create_task(self._serve(next(self._numbers), voter))
            self._voting.add(task)
            task.add_done_callback(self._voting.discard)

    async def leave(self) -> None:
        """Wait until everybody has an outcome or has lost patience."""
        while self._voting:
            await asyncio.gather(*self._voting)

    async def close(self) -> None:
        """Send everybody home."""
        for task in tuple(self._voting):
            task.cancel()
        await asyncio.gather(*self._voting, return_exceptions=True)
        for client in (*self._votes.values(), self._eligibility):
            client.close()

    async def _serve(self, number: int, voter: Voter) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                token = await self._admit(number, voter)
                if token:
                    await self._vote(_Visit(number, voter.cell, token), voter)
        except TimeoutError:
            self.unserved += 1

    async def _vote(self, visit: "_Visit", voter: Voter) -> None:
        ballot, key = self._survey.answers(voter.ballot), secrets.token_urlsafe(12)
        match voter.habit:
            case Habit.AGAIN:
                await self._send(visit, ballot, key)
                await self._send(visit, ballot, key)
            case Habit.CUT_OFF:
                await self._hang_up(visit, ballot, key)
                await self._send(visit, ballot, key)
            case Habit.DOUBLE_CLICK:  # two processes at the same moment, with two keys
                keys = key, secrets.token_urlsafe(12)
                await asyncio.gather(*(self._send(visit, ballot, each) for each in keys))
            case Habit.SECOND_THOUGHTS:
                if await self._send(visit, ballot, key):
                    other = self._survey.other_answers(voter.ballot)
                    await self._send(visit, other, secrets.token_urlsafe(12), number=1)
            case _:
                await self._send(visit, ballot, key)

    async def _admit(self, number: int, voter: Voter) -> str:
        """Return a voting token, or nothing where the survey is closed already."""
        for tries in itertools.count():
            access = self._access.voter(voter.voter_id, voter.cell, voter.ballot.region)
            answer = await _answer(self._eligibility, "POST", self._survey.token_path, access)
            if isinstance(answer, Answer) and answer.status == CONFIRMED:
                token: str = answer.json()["votingToken"]
                self._note(number, voter, token)
                return token
            if isinstance(answer, Answer) and answer.status not in {429, 503}:
                if problem_code(answer) in self._refused:
                    return ""
                self._surprise("admission", answer)
            await _come_back(answer, tries)
        return ""

    def _note(self, number: int, voter: Voter, token: str) -> None:
        """Write down who may vote, and the ballot that is to count."""
        claims = claims_of(token)
        paper = voter.ballot
        chosen = zip(self._survey.questions, ((paper.first,), paper.others), strict=True)
        self._notebook.write(
            Asked(
                number,
                voter.cell,
                voter.ballot.region,
                nullifier_of(token).hex(),
                base64url.decode(claims["evidence"].encode()).hex(),
                tuple((question, tuple(parties)) for question, parties in chosen),
            )
        )

    async def _hang_up(self, visit: "_Visit", ballot: object, key: str) -> None:
        door = next(self._turn)
        sent = time.monotonic()
        with contextlib.suppress(NoAnswerError):
            await self._votes[door].cut_off(
                "POST", self._survey.vote_path, token=visit.token, body=ballot, headers={"Idempotency-Key": key}
            )
        self._say(visit, Said(visit.number, door, visit.cell, key, 0, sent, time.monotonic(), NO_ANSWER))

    async def _send(self, visit: "_Visit", ballot: object, key: str, *, number: int = 0) -> bool:
        """Vote until there is an outcome; tell whether the vote was confirmed at once."""
        for tries in itertools.count():
            door, sent = next(self._turn), time.monotonic()
            answer = await _answer(self._votes[door], "POST", self._survey.vote_path, visit.token, ballot, key)
            heard = time.monotonic()
            if not isinstance(answer, Answer):
                self._say(visit, Said(visit.number, door, visit.cell, key, number, sent, heard, NO_ANSWER, answer))
                await _come_back(answer, tries)
                continue
            body = _document(answer)
            said = Said(
                visit.number,
                door,
                visit.cell,
                key,
                number,
                sent,
                heard,
                answer.status,
                body.get("code", ""),
                body.get("receipt", ""),
                body.get("replayed", False),
            )
            self._say(visit, said)
            if answer.status == CONFIRMED:
                return True
            if answer.status == ACCEPTED:
                await self._learn(visit, door, answer.headers["location"])
                return False
            if said.code in self._refused:
                return False
            if answer.status not in {429, 503}:
                self._surprise("voting", answer)
            await _come_back(answer, tries)
        return False

    async def _learn(self, visit: "_Visit", door: str, address: str) -> None:
        """Look at an accepted submission until it is over, at whichever process answers."""
        for tries in itertools.count():
            answer = await _answer(self._votes[door], "GET", address, visit.token)
            if isinstance(answer, Answer) and answer.status == 200:
                found = answer.json()
                if found["status"] in {"confirmed", "refused"}:
                    receipt, code = found.get("receipt", ""), found.get("code", "")
                    self._notebook.write(Learnt(visit.number, found["status"], time.monotonic(), receipt, code))
                    self._count(visit, is_confirmed=found["status"] == "confirmed")
                    return
            elif isinstance(answer, Answer) and answer.status not in {429, 503}:
                self._surprise("submission", answer)
            door = next(self._turn)
            await _come_back(answer, tries)

    def _say(self, visit: "_Visit", said: Said) -> None:
        self._notebook.write(said)
        self._count(visit, is_confirmed=said.status == CONFIRMED)

    def _count(self, visit: "_Visit", *, is_confirmed: bool) -> None:
        if is_confirmed and not visit.is_confirmed:
            visit.is_confirmed = True
            self.confirmed += 1

    def _surprise(self, what: str, answer: Answer) -> None:
        self.surprises.append(f"{what}: {answer.status} {problem_code(answer)}")


@dataclass(slots=True)
class _Visit:
    number: int
    cell: str
    token: str
    is_confirmed: bool = False


async def _answer(
    client: HttpClient, method: str, path: str, token: str, body: object = None, key: str = ""
) -> Answer | str:
    """Return the answer, or why none came."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            headers = {"Idempotency-Key": key} if key else None
            return await client.request(method, path, token=token, body=body, headers=headers)
    except NoAnswerError as error:
        return str(error)
    except TimeoutError:
        return "late"


def _document(answer: Answer) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def _come_back(answer: Answer | str, tries: int) -> None:
    asked = retry_after(answer, 0.0) if isinstance(answer, Answer) else 0.0
    await asyncio.sleep(asked + random.uniform(0.5, 1) * min(_COME_BACK_MAX_S, _COME_BACK_S * 2 ** min(tries, 10)))


def habits(count: int, share: float, chance: random.Random) -> Sequence[Habit]:
    """Return what so many voters do: `share` of them, at most 1, something else than voting once."""
    others = [habit for habit in Habit if habit is not Habit.NONE]
    return [chance.choice(others) if chance.random() < share else Habit.NONE for _ in range(count)]
