"""How the voters of a demo vote: voting token, vote, and whatever it takes to get an answer."""

import asyncio
import random
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from comitia.demo.client import Answer, HttpClient, NoAnswerError
from comitia.demo.counters import CellCounters, Counters
from comitia.demo.survey import PublishedElection, problem_code, retry_after
from comitia.demo.voters import Habit, Voter
from integrations.keys.access_tokens import AccessTokens

_PATIENCE_S = 120.0  # of one voter, outages included
_LOOK_AGAIN_S = 0.1
_COME_BACK_S = (0.2, 0.6)  # after a cut connection; spread, so that not everybody is there at once
_BUSY = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}


class UnexpectedError(Exception):
    """An answer that no voter of this demo should get; the text names what came and where."""


@dataclass(slots=True)
class _Visit:
    """One voter's counters, and the receipt once there is one."""

    cell: CellCounters
    is_accepted: bool = False
    receipt: str = ""

    def acknowledge(self) -> None:
        """Note a 201 or 202."""
        self.cell.accepted += not self.is_accepted
        self.is_accepted = True

    def take(self, confirmed: Mapping[str, str]) -> None:
        """Note the receipt that a request ended with."""
        if self.receipt:
            self.cell.again += 1
        else:
            self.cell.confirmed += 1
            self.receipt = confirmed["receipt"]
        _require(self.receipt == confirmed["receipt"], "a repeat got another receipt")

    def refuse(self, what: str, code: str) -> bool:
        """Note that a request ended with a no; only one of them is foreseen."""
        if code != "already_voted":
            self.cell.unexpected += 1
            raise UnexpectedError(f"{what} {code}")
        self.cell.refused += 1
        return False


class Booth:
    """Where voters come to vote, any number at once."""

    def __init__(
        self,
        survey: PublishedElection,
        eligibility: HttpClient,
        votes: HttpClient,
        tokens: AccessTokens,
        counters: Counters,
    ) -> None:
        self._survey = survey
        self._eligibility = eligibility
        self._votes = votes
        self._tokens = tokens
        self._counters = counters

    async def serve(self, voters: Iterable[Voter], at_once: int) -> None:
        """Let everybody vote, `at_once` of them at the same time; what goes wrong is counted by its name."""
        waiting = iter(voters)

        async def work() -> None:
            for voter in waiting:
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        await self._vote(voter)
                except UnexpectedError as error:
                    self._counters.faults[str(error)] += 1
                except TimeoutError:
                    self._counters.faults[f"no outcome within {_PATIENCE_S:.0f} s"] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    async def _vote(self, voter: Voter) -> None:
        visit = _Visit(self._counters.cells[voter.cell])
        token = await self._voting_token(voter)
        body, key = self._survey.answers(voter.ballot), _new_key()
        match voter.habit:
            case Habit.NONE:
                await self._send(visit, token, body, key)
            case Habit.AGAIN:
                await self._send(visit, token, body, key)
                _require(await self._send(visit, token, body, key), "a repeat with the same key was refused")
            case Habit.CUT_OFF:
                await self._hang_up(visit, token, body, key)
                await self._send(visit, token, body, key)
            case Habit.DOUBLE_CLICK:
                both = await asyncio.gather(*(self._send(visit, token, body, _new_key()) for _ in range(2)))
                _require(sorted(both) == [False, True], "a double click did not count exactly once")
            case Habit.SECOND_THOUGHTS:
                await self._send(visit, token, body, key)
                again, other = await self._voting_token(voter), self._survey.other_answers(voter.ballot)
                _require(not await self._send(visit, again, other, _new_key()), "a second vote was not refused")
        _require(bool(visit.receipt), "a first vote was refused")

    async def _voting_token(self, voter: Voter) -> str:
        while True:
            # Signed now and not beforehand: it is good for 15 minutes
            access = self._tokens.voter(voter.voter_id, voter.cell, voter.ballot.region)
            try:
                answer = await self._eligibility.request("POST", self._survey.token_path, token=access)
            except NoAnswerError:
                await _come_back()
                continue
            if answer.status == HTTPStatus.CREATED:
                token: str = answer.json()["votingToken"]
                return token
            if answer.status not in _BUSY:
                raise UnexpectedError(f"asking for a voting token: {answer.status} {problem_code(answer)}")
            await asyncio.sleep(retry_after(answer))

    async def _hang_up(self, visit: _Visit, token: str, body: object, key: str) -> None:
        visit.cell.sent += 1
        visit.cell.unanswered += 1
        try:
            await self._votes.cut_off("POST", self._survey.vote_path, token=token, body=body, headers=_header(key))
        except NoAnswerError:
            await _come_back()

    async def _send(self, visit: _Visit, token: str, body: object, key: str) -> bool:
        """Send one vote until it has an outcome; tell whether that is a receipt, and not that the person had voted."""
        while True:
            visit.cell.sent += 1
            began = time.perf_counter()
            try:
                answer = await self._votes.request(
                    "POST", self._survey.vote_path, token=token, body=body, headers=_header(key)
                )
            except NoAnswerError:
                visit.cell.unanswered += 1
                await _come_back()
                continue
            if answer.status not in _BUSY:
                self._counters.note_latency(time.perf_counter() - began)
                return await self._outcome(visit, token, answer)
            visit.cell.put_off += 1
            await asyncio.sleep(retry_after(answer))

    async def _outcome(self, visit: _Visit, token: str, answer: Answer) -> bool:
        if answer.status == HTTPStatus.CREATED:
            visit.acknowledge()
            visit.take(answer.json())
            return True
        if answer.status == HTTPStatus.ACCEPTED:
            visit.acknowledge()
            return await self._await_receipt(visit, token, answer.headers["location"])
        return visit.refuse(f"voting: {answer.status}", problem_code(answer))

    async def _await_receipt(self, visit: _Visit, token: str, address: str) -> bool:
        """Look at a submission until it is over."""
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            try:
                answer = await self._votes.request("GET", address, token=token)
            except NoAnswerError:
                continue
            if answer.status in _BUSY:
                continue
            if answer.status != HTTPStatus.OK:
                return visit.refuse(f"looking at a submission: {answer.status}", problem_code(answer))
            found = answer.json()
            if found["status"] == "confirmed":
                visit.take(found)
                return True
            if found["status"] == "refused":
                return visit.refuse("a submission was refused:", found["code"])


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise UnexpectedError(otherwise)


def _new_key() -> str:
    return secrets.token_urlsafe(16)


def _header(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def _come_back() -> None:
    await asyncio.sleep(random.uniform(*_COME_BACK_S))  # noqa: S311 - spread only
