"""Who is let in when there is more to do than this process can: decided before anything is parsed or verified."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final, Protocol

from api.http.loop_delay import LoopDelay
from domain.priorities import RULES, Work
from integrations.telemetry.work_metrics import WorkMetrics

_SETTLE_EVERY_S: Final = 0.1
_GIVING_WAY_S: Final = 1.0  # how long less important work stays out after the last vote that was refused
_BUSY_S: Final = 0.004  # a process that is later than this is at work, and not merely waiting for somebody else
_LEAST_DELAY_S: Final = min(rule.delay_max_s for rule in RULES.values())
_REST_TIMES: Final = 6  # how many delays of the process a refused connection is left alone
_REST_S: Final = 0.03  # where what was taken takes _TAKES_S to be answered; four times that where it takes twice that
_TAKES_S: Final = 0.15
_REST_MAX_S: Final = 0.5
_REST_LEAST_S: Final = 0.01
LATE: Final = "late"
FULL: Final = "full"
GIVES_WAY: Final = "gives_way"


class Gate(Protocol):
    """Bounds one route by what only the service knows, for example how full the queue behind it is."""

    @property
    def full(self) -> bool:
        """Whether anybody at all would be refused now; read for every request, so it must cost nothing."""
        ...

    @property
    def takes_s(self) -> float:
        """How long what was taken takes to be answered now, where the gate is full."""
        ...

    def refuses(self, parameter: str, authorization: bytes) -> bool:
        """Tell whether a request is refused, by its `{id}` segment and what it claims to be, unverified."""
        ...


class Resting(Protocol):
    """A connection that is not read from for a moment."""

    def read_again(self) -> None:
        """Go on reading; a no-op where it has closed."""
        ...


class LoadShedder:
    """One per process.

    Refusing takes time as well, and a loop that is never without refusals holds up every step of the votes that were
    taken. So a connection that was refused is left alone for a moment, and many are looked at again together: what is
    sent meanwhile waits with the kernel, where it costs nothing.
    """

    def __init__(self, metrics: WorkMetrics, delay: LoopDelay | None = None, gates: Sequence[Gate] = ()) -> None:
        self._metrics = metrics
        self._delay = delay or LoopDelay()
        self._delay.on_sample = self.wake
        self._resting: deque[tuple[float, Resting]] = deque()
        self._gates = tuple(gates)
        self._in_flight = dict.fromkeys(Work, 0)
        self._admitted: Counter[Work] = Counter()
        self._refused: Counter[tuple[Work, str]] = Counter()
        self._votes_refused_at = float("-inf")
        self._now = 0.0

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

    def rest(self, connection: Resting, gate: Gate | None) -> bool:
        """Leave a refused connection alone for a moment; say whether that is any time at all.

        The caller stops reading from it; `read_again` is called when it has rested.
        """
        taking_s = gate.takes_s if gate is not None else 0.0
        rest_s = min(_REST_MAX_S, max(_REST_TIMES * self._delay.standing_s, _REST_S * (taking_s / _TAKES_S) ** 2))
        if rest_s < _REST_LEAST_S:
            return False
        self._resting.append((time.monotonic() + rest_s, connection))
        return True

    def wake(self) -> None:
        """Read again from those who have rested."""
        now = time.monotonic()
        while self._resting and self._resting[0][0] <= now:
            self._resting.popleft()[1].read_again()

    def settle(self) -> None:
        """Bring what was counted to the metrics."""
        admitted, self._admitted = self._admitted, Counter()
        refused, self._refused = self._refused, Counter()
        for work, count in admitted.items():
            self._metrics.admitted(work, count)
        for (work, reason), count in refused.items():
            self._metrics.refused(work, reason, count)
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
