"""One survey's broadcast: what changed is read once, encoded once, and written to every stream."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import structlog

from api.streams.heartbeat import HeartbeatWheel
from api.streams.protocol import Positions, Stream
from domain.errors import DomainError
from domain.results import PublishedSurvey, check_streamable, results_document
from domain.tally import MergedTotals
from integrations.telemetry.metrics import StreamMetrics

_SPACING_S: Final = 0.2  # at most five updates a second; the first after a pause goes out at once
_RESUME_S: Final = 60.0  # how long a client that has seen more waits for as much
_LOOK_S: Final = 1.0  # besides being told: the end of the survey, cells that go missing, changes not heard of
_WRITES_AT_ONCE: Final = 200  # about 2 ms; then others get their turn
_encode: Final = msgspec.json.Encoder().encode

log = structlog.get_logger(__name__)


class Results(Protocol):
    """What is read."""

    async def published(self, survey_id: str) -> PublishedSurvey:
        """Return a survey as its cells have it."""
        ...

    async def public_totals(self, survey_id: str) -> MergedTotals:
        """Return what everyone may see."""
        ...


class Channel:
    """The streams of one survey in this process, and what they show."""

    def __init__(self, survey_id: str, results: Results, metrics: StreamMetrics, wheel: HeartbeatWheel) -> None:
        self.survey_id = survey_id
        self.streams: set[Stream] = set()
        self.frame = b""
        self.version = 0
        self.event_id = ""
        self.positions: Positions = {}
        self.missing: tuple[str, ...] = ()
        self.published: PublishedSurvey | None = None
        self._results = results
        self._metrics = metrics
        self._wheel = wheel
        self._shown: object = None
        self._dirty = asyncio.Event()
        self.on_empty: Callable[[], None] = lambda: None

    def changed(self) -> None:
        """Note that there may be something new."""
        self._metrics.messages_in.inc()
        self._dirty.set()

    def join(self) -> Stream:
        """Return a new stream of this survey, not started."""
        stream = Stream(self, self._metrics, self._wheel.slot())
        self.streams.add(stream)
        self._wheel.add(stream)
        return stream

    def behind(self, seen: Positions, waited_s: float) -> bool:
        """Tell whether a cell's totals here are older than what a client has seen of them at another process.

        A cell that cannot be read now is waited for. Where it can be read and is behind nevertheless (it was restored
        to an earlier state), that is what there is, after a while.
        """
        nothing = (-1, -1)
        older = [
            cell
            for cell, place in seen.items()
            if (cell in self.positions or cell in self.missing) and self.positions.get(cell, nothing) < place
        ]
        return bool(older) and (waited_s < _RESUME_S or any(cell in self.missing for cell in older))

    def left(self, stream: Stream) -> None:
        """Forget a stream."""
        self.streams.discard(stream)
        self._wheel.remove(stream)
        if not self.streams:
            self.on_empty()

    async def load(self) -> None:
        """Read survey and totals for the first time.

        Raises:
            DomainError: `survey_not_found`, `results_not_visible`, or what the reader raises.
        """
        published = await self._results.published(self.survey_id)
        check_streamable(published)
        self._render(published, await self._results.public_totals(self.survey_id))

    async def run(self) -> None:
        """Show what changes until cancelled."""
        failing = False
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._dirty.wait(), _LOOK_S)
            self._dirty.clear()
            started = time.monotonic()
            try:
                published = await self._results.published(self.survey_id)
                changed = self._render(published, await self._results.public_totals(self.survey_id))
                failing = False
            except DomainError as error:
                if not failing:
                    log.warning("stream_stands_still", election_id=self.survey_id, code=error.code)
                failing, changed = True, False
            if changed:
                await self._broadcast()
                await asyncio.sleep(max(0.0, started + _SPACING_S - time.monotonic()))

    def _render(self, published: PublishedSurvey, totals: MergedTotals) -> bool:
        """Encode a new frame; False where it would show what the last one does."""
        shows = (totals.event_id, totals.missing_cells, published.is_closed, published.survey.version)
        self.published = published
        if shows == self._shown:
            return False
        self._shown = shows
        self.event_id = totals.event_id
        self.positions, self.missing = totals.positions, totals.missing_cells
        data = _encode(results_document(published.survey, totals))
        self.frame = b"id: %b\nevent: results\ndata: %b\n\n" % (totals.event_id.encode(), data)
        if published.is_closed:
            self.frame += b"event: closed\ndata: {}\n\n"
        self.version += 1
        return True

    async def _broadcast(self) -> None:
        """Write to every stream, in pieces, so that no write waits for ten thousand others."""
        waiting = list(self.streams)
        for start in range(0, len(waiting), _WRITES_AT_ONCE):
            written = sum(stream.show() for stream in waiting[start : start + _WRITES_AT_ONCE])
            self._metrics.messages_out.inc(written)
            await asyncio.sleep(0)
