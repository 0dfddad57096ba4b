"""Who is let in when there is more to do than this process can: decided before anything is parsed or verified."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from api.http.loop_delay import LoopDelay
from domain.priorities import RULES, Work
from integrations.telemetry.work_metrics import WorkMetrics

_SETTLE_EVERY_S: Final = 0.1
_GIVING_WAY_S: Final = 1.0  # how long less important work stays out after the last vote that was refused
_BUSY_S: Final = 0.004  # a process that is later than this is at work, and not merely waiting for somebody else
_LEAST_DELAY_S: Final = min(rule.delay_max_s for rule in RULES.values())
LATE: Final = "late"
FULL: Final = "full"
GIVES_WAY: Final = "gives_way"


class Gate(Protocol):
    """Bounds one route by what only the service knows, for example how full the queue behind it is."""

    @property
    def full(self) -> bool:
        """Whether anybody at all would be refused now; read for every request, so it must cost nothing."""
        ...

    def refuses(self, parameter: str, authorization: bytes) -> bool:
        """Tell whether a request is refused, by its `{id}` segment and what it claims to be, unverified."""
        ...


class LoadShedder:
    """One per process."""

    def __init__(
        self,
        metrics: WorkMetrics,
        delay: LoopDelay | None = None,
        gates: Sequence[Gate] = (),
        *,
        on_refused: Callable[[Work, int], None] | None = None,
    ) -> None:
        self._metrics = metrics
        self._on_refused = on_refused
        self._delay = delay or LoopDelay()
        self._gates = tuple(gates)
        self._in_flight = dict.fromkeys(Work, 0)
        self._admitted: Counter[Work] = Counter()
        self._refused: Counter[tuple[Work, str]] = Counter()
        self._votes_refused_at = float("-inf")

    async def run(self) -> None:
        """Measure how late the process is, and bring the counts to the metrics, until cancelled."""
        watching = asyncio.create_task(self._delay.watch())
        try:
            while True:
                await asyncio.sleep(_SETTLE_EVERY_S)
                self.settle()
        finally:
            watching.cancel()

    @property
    def alert(self) -> bool:
        """Whether some request may have to be refused: only then is it worth looking."""
        if self._delay.standing_s > _LEAST_DELAY_S:
            return True
        for gate in self._gates:  # noqa: SIM110 - read for every request: a generator costs more than the rest
            if gate.full:
                return True
        return False

    def refusal(self, work: Work, gate: Gate | None = None, parameter: str = "", authorization: bytes = b"") -> str:
        """Return why a request is refused now, empty where it is taken; a refusal is counted."""
        reason = self._reason(work, gate, parameter, authorization)
        if reason:
            self._refused[work, reason] += 1
            if work is Work.VOTE:
                self._votes_refused_at = asyncio.get_running_loop().time()
        return reason

    def enter(self, work: Work) -> None:
        """Begin a request that was not refused."""
        self._in_flight[work] += 1
        self._admitted[work] += 1

    def leave(self, work: Work) -> None:
        """End a request."""
        self._in_flight[work] -= 1

    def settle(self) -> None:
        """Bring what was counted to the metrics."""
        admitted, self._admitted = self._admitted, Counter()
        refused, self._refused = self._refused, Counter()
        for work, count in admitted.items():
            self._metrics.admitted(work, count)
        for (work, reason), count in refused.items():
            self._metrics.refused(work, reason, count)
            if self._on_refused is not None:
                self._on_refused(work, count)
        for work, count in self._in_flight.items():
            self._metrics.in_flight(work, count)
        self._metrics.delay_seconds.set(self._delay.standing_s)

    def _reason(self, work: Work, gate: Gate | None, parameter: str, authorization: bytes) -> str:
        rule, delay_s = RULES[work], self._delay.standing_s
        if delay_s > rule.delay_max_s:
            return LATE
        if self._in_flight[work] >= rule.in_flight_max:
            return FULL
        if gate is not None and gate.full and gate.refuses(parameter, authorization):
            return FULL
        if rule.gives_way and delay_s > _BUSY_S and self._recently_refused_votes():
            return GIVES_WAY
        return ""

    def _recently_refused_votes(self) -> bool:
        return asyncio.get_running_loop().time() - self._votes_refused_at < _GIVING_WAY_S
