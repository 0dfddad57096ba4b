"""All streams of a process: who may open one, and which survey it shows."""

import asyncio
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from api.http.held_places import HeldPlaces
from api.http.lean import LeanRequest
from api.http.limits import Limits
from api.streams.channel import Channel, Results
from api.streams.heartbeat import HeartbeatWheel
from api.streams.protocol import HEAD
from domain.errors import DomainError, ErrorCode
from domain.limits import STREAM_ADDRESS, STREAM_NETWORK
from domain.results import check_streamable
from domain.tally import positions_of
from integrations.redis.changes import TallyChanges
from integrations.telemetry.metrics import StreamMetrics

_RETRY_MS: Final = (1000, 5000)  # when a process ends, its streams come back spread over this time
_OPENED_AT_ONCE: Final = 100
_SURVEY_ID_MAX: Final = 64

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Open:
    """A channel; until it is loaded, those who wait for it."""

    channel: Channel
    waiting: deque[LeanRequest] = field(default_factory=deque)
    loaded: bool = False
    task: asyncio.Task[None] | None = None


class StreamHub:
    """Opens streams; the channel of a survey lives from its first stream to its last."""

    def __init__(
        self,
        results: Results,
        changes: Iterable[TallyChanges],
        metrics: StreamMetrics,
        wheel: HeartbeatWheel,
        *,
        limits: Limits,
        held: HeldPlaces,
    ) -> None:
        self._results = results
        self._changes = tuple(changes)
        self._metrics = metrics
        self._wheel = wheel
        self._limits = limits.route(address=STREAM_ADDRESS, network=STREAM_NETWORK)
        self._places = limits.places
        self._held = held
        self._open: dict[str, _Open] = {}

    def waiting(self) -> int:
        """Return how many streams wait for their survey to be read, or for their turn."""
        return sum(len(opened.waiting) for opened in self._open.values())

    def open_stream(self, request: LeanRequest) -> None:
        """Answer `GET /v1/surveys/{id}/results/stream`: the handler of the lean route.

        Raises:
            DomainError: `malformed_request`, `survey_not_found`, `results_not_visible`, `rate_limited`.
        """
        self._limits.take(request)
        if request.query:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "a stream takes no parameters")
        survey_id = request.parameter
        if len(survey_id) > _SURVEY_ID_MAX:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
        found = self._open.get(survey_id)
        if found is None:
            found = self._open[survey_id] = self._begin(survey_id)
        if found.loaded:
            self._attach(found.channel, request)
        else:
            found.waiting.append(request)

    def close(self) -> None:
        """End every channel; its streams are the server's to end."""
        for survey_id in tuple(self._open):
            self._end(survey_id)

    def _begin(self, survey_id: str) -> _Open:
        opened = _Open(Channel(survey_id, self._results, self._metrics, self._wheel))
        opened.task = asyncio.get_running_loop().create_task(self._run(opened))
        opened.task.add_done_callback(lambda task: self._ended(opened, task))
        return opened

    def _end(self, survey_id: str) -> None:
        opened = self._open.pop(survey_id, None)
        if opened is None:
            return
        for changes in self._changes:
            changes.unsubscribe(survey_id)
        if opened.task is not None:
            opened.task.cancel()

    def _ended(self, opened: _Open, task: asyncio.Task[None]) -> None:
        """After a fault of ours: let clients come back and begin anew."""
        if task.cancelled() or task.exception() is None:
            return
        log.error("stream_failed", election_id=opened.channel.survey_id, exc_info=task.exception())
        if self._open.get(opened.channel.survey_id) is opened:
            self._end(opened.channel.survey_id)
        for request in opened.waiting:
            request.respond_problem(ErrorCode.INTERNAL)
        for stream in tuple(opened.channel.streams):
            stream.end()

    async def _run(self, opened: _Open) -> None:
        channel, survey_id = opened.channel, opened.channel.survey_id
        try:
            await channel.load()
        except DomainError as error:
            self._open.pop(survey_id, None)
            for request in opened.waiting:
                request.respond_error(error)
            return
        for changes in self._changes:
            changes.subscribe(survey_id, channel.changed)
        while opened.waiting:
            for _ in range(min(len(opened.waiting), _OPENED_AT_ONCE)):
                self._attach_waiting(channel, opened.waiting.popleft())
            await asyncio.sleep(0)
        opened.loaded = True
        channel.on_empty = lambda: self._end(survey_id)
        if not channel.streams:  # everybody left in the meantime
            self._end(survey_id)
        channel.changed()  # what came between reading and subscribing
        await channel.run()

    def _attach_waiting(self, channel: Channel, request: LeanRequest) -> None:
        try:
            self._attach(channel, request)
        except DomainError as error:
            request.respond_error(error)

    def _attach(self, channel: Channel, request: LeanRequest) -> None:
        """Turn a request into a stream; one whose client is gone is left alone."""
        assert channel.published is not None
        check_streamable(channel.published)
        last_seen = (request.get(b"last-event-id") or b"").decode("latin-1")
        address = self._places.of(request.client).address
        self._held.take(request, address)
        stream = channel.join()
        try:
            transport = request.detach(stream.end)
        except ConnectionError:
            self._held.give_back(address)
            channel.left(stream)
            return
        stream.lost = partial(self._held.give_back, address)
        self._metrics.opened(resumed=bool(last_seen))
        retry_ms = random.randint(*_RETRY_MS)  # noqa: S311
        own = b"x-request-id: %b\r\n\r\nretry: %d\n\n" % (request.request_id.encode("ascii"), retry_ms)
        stream.start(transport, HEAD + request.limit_lines + own)
        stream.seen = positions_of(last_seen) or None
        if last_seen == channel.event_id:
            stream.version = channel.version
        elif stream.show():
            self._metrics.messages_out.inc()
