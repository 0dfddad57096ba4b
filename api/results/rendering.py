"""Results as bytes, made once for everyone who asks within a moment."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import msgspec

from domain.contracts.surveys import Survey
from domain.results import Filter, results_document
from domain.tally import MergedTotals

_FRESH_S: Final = 0.1  # asked for a thousand times a second, read ten times
_KEPT_MAX: Final = 1000
_RENDERED_MAX: Final = 64  # filters per snapshot
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Rendered:
    """A document, and a weak entity tag of all of it but `asOf`: the same tag means the same votes."""

    body: bytes
    entity_tag: str


@dataclass(slots=True)
class Snapshot:
    """Totals of one moment and what was rendered of them."""

    survey: Survey
    totals: MergedTotals
    read_at: float
    rendered: dict[Filter, Rendered] = field(default_factory=dict)

    def render(self, narrowed: Filter) -> Rendered:
        """Return the document, narrowed; made on first use."""
        found = self.rendered.get(narrowed)
        if found is None:
            found = _render(results_document(self.survey, self.totals, narrowed))
            if len(self.rendered) < _RENDERED_MAX:
                self.rendered[narrowed] = found
        return found


def _render(document: dict[str, Any]) -> Rendered:
    body = _encode(document)
    digest = blake2b(_encode({**document, "asOf": None}), digest_size=16).hexdigest()
    return Rendered(body, f'W/"{digest}"')


class Snapshots:
    """The newest snapshot of each survey, shared by all who ask at once; one kind of reader each."""

    def __init__(self, read: Callable[[str], Awaitable[MergedTotals]]) -> None:
        self._read = read
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()
        self._reading: dict[str, asyncio.Task[MergedTotals]] = {}

    async def get(self, survey: Survey) -> Snapshot:
        """Return a snapshot that is at most a moment old. Raises what the reader raises."""
        kept = self._kept.get(survey.id)
        if kept is not None and time.monotonic() - kept.read_at < _FRESH_S and kept.survey.version == survey.version:
            return kept
        started = time.monotonic()
        task = self._reading.get(survey.id)
        if task is None:
            task = asyncio.ensure_future(self._read(survey.id))
            self._reading[survey.id] = task
            task.add_done_callback(lambda done: self._done(survey.id, done))
        totals = await asyncio.shield(task)
        kept = self._kept.get(survey.id)
        if kept is None or kept.totals is not totals or kept.survey.version != survey.version:
            kept = self._kept[survey.id] = Snapshot(survey, totals, started)
            self._kept.move_to_end(survey.id)
            while len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        return kept

    def _done(self, survey_id: str, task: asyncio.Future[MergedTotals]) -> None:
        del self._reading[survey_id]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be waiting any more


def is_known(if_none_match: str | None, entity_tag: str) -> bool:
    """Tell whether a reader has this document already (RFC 9110 section 13.1.2, weak comparison)."""
    if if_none_match is None:
        return False
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in known or entity_tag.removeprefix("W/") in known
