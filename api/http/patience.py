"""Ends what nobody waits for: the caller's time is over, or the caller has gone."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.lean import LeanRequest
from api.http.problems import PROBLEM_CONTENT_TYPE, problem_bytes
from domain.deadlines import timeout_s
from domain.errors import DomainError, ErrorCode
from domain.priorities import RULES, Work
from integrations.deadlines import until

REQUEST_TIMEOUT: Final = b"request-timeout"
FOREVER: Final = float("inf")


def remaining_s(stated: bytes | None, received_at: float) -> float:
    """Return how long a caller still waits; infinite where it did not say.

    `received_at` is `time.perf_counter()` at the request's first byte.

    Raises:
        DomainError: `deadline_exceeded`, or `malformed_request` where what it says is no time-out.
    """
    if stated is None:
        return FOREVER
    left_s = timeout_s(stated) - (time.perf_counter() - received_at)
    if left_s <= 0:
        raise DomainError(ErrorCode.DEADLINE_EXCEEDED)
    return left_s


def patience_of(request: LeanRequest) -> float:
    """Return `remaining_s` of a lean request."""
    return remaining_s(request.get(REQUEST_TIMEOUT), request.received_at)


def still_waiting(request: LeanRequest) -> Callable[[], bool]:
    """Return what tells, at any later moment, whether somebody waits for the answer to a lean request.

    Raises:
        DomainError: as `patience_of`.
    """
    until_s = time.perf_counter() + patience_of(request)
    return lambda: not request.disconnected and time.perf_counter() < until_s


class Patience:
    """Around an application: nothing is begun after its caller's deadline, and calls know of it.

    Abandonable work (`domain/priorities.py`) is stopped where it stands: its statements are cancelled in the database,
    its transaction is rolled back. Other work that has begun is finished.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        stated = next((value for name, value in scope["headers"] if name == REQUEST_TIMEOUT), None)
        answer = _Answer(send)
        try:
            left_s = remaining_s(stated, state.get("received_at", time.perf_counter()))
            with until(time.monotonic() + left_s):
                rule = RULES[state.get("work", Work.OPERATION)]
                if rule.ends_with_input and state.get("half_closed"):
                    raise DomainError(ErrorCode.DEADLINE_EXCEEDED)
                if rule.abandonable:
                    await self._run(scope, receive, answer, left_s, ends_with_input=rule.ends_with_input)
                else:
                    await self._app(scope, receive, answer)
        except DomainError as error:  # only ours: the application has answered its own
            await answer.problem(error, state.get("request_id", ""))

    async def _run(self, scope: Scope, receive: Receive, send: Send, left_s: float, *, ends_with_input: bool) -> None:
        loop = asyncio.get_running_loop()
        state = scope["state"]
        try:
            async with asyncio.timeout(None if left_s == FOREVER else left_s) as limit:
                state["abandon"] = lambda: limit.reschedule(loop.time())
                if ends_with_input:
                    state["leave"] = state["abandon"]
                try:
                    await self._app(scope, receive, send)
                finally:
                    del state["abandon"]
                    state.pop("leave", None)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DomainError(ErrorCode.DEADLINE_EXCEEDED) from None


class _Answer:
    """Passes an answer on, and knows whether one has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def __call__(self, message: Message) -> None:
        self._begun = True
        await self._send(message)

    async def problem(self, error: DomainError, request_id: str) -> None:
        """Answer with a problem, unless an answer is on its way."""
        if self._begun:
            return
        status, lines, body = problem_bytes(error.code, error.detail, request_id=request_id)
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")) if name]
        headers += [(b"content-type", PROBLEM_CONTENT_TYPE), (b"content-length", str(len(body)).encode("ascii"))]
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body, "more_body": False})
