"""Logins sent evenly to some processes, by a client in a process of its own: what was answered, how soon, for what."""

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.spec import LoadSpec, percentile, read_journal, write_requests
from benchmarks.processes import CpuWatch, run_load
from benchmarks.report import check_equal
from integrations.keys.dpop_keys import ProofKey, make_proof

PUBLIC_URL = "http://login.example"  # which proofs are made for, whichever process gets them
LET_IN, REFUSED = 200, 503
_PATH = "/v1/auth/logins"
_CONNECTIONS = 400  # more than are ever in use: nobody waits for one
_LATE_S = 15.0
_SHOWN_MS = 0.1  # of CPU per login
_DECISIONS = "login_decision_seconds_bucket"


@dataclass(frozen=True, slots=True)
class Login:
    """A login that is ready to be sent."""

    body: bytes
    key: ProofKey

    def request(self) -> bytes:
        """Return it with a fresh proof."""
        lines = (
            f"POST {_PATH} HTTP/1.1",
            "host: login.example",
            f"dpop: {make_proof(self.key, 'POST', PUBLIC_URL + _PATH, time.time(), body=self.body)}",
            "user-agent: benchmark/1.0",
            "content-type: application/json",
            f"content-length: {len(self.body)}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a load: statuses with the milliseconds since each was due, and the CPU seconds that it took.

    `within` are the bounds of `login_decision_seconds`, each with how many decisions took no longer.
    """

    answers: Sequence[tuple[int, float]]
    seconds: float
    cpu_s: Mapping[str, float]
    within: Mapping[float, float]

    def waits(self, status: int) -> list[float]:
        """Return how long whoever was answered so had waited, in ms, the shortest first."""
        return sorted(waited for found, waited in self.answers if found == status)

    @property
    def rate(self) -> float:
        """Logins let in per second."""
        return len(self.waits(LET_IN)) / self.seconds

    @property
    def summary(self) -> str:
        """The load in one line."""
        each = {name: 1000 * value / max(1, len(self.waits(LET_IN))) for name, value in self.cpu_s.items()}
        cost = ", ".join(f"{name} {value:.1f}" for name, value in each.items() if value >= _SHOWN_MS)
        statuses = dict(Counter(status for status, _ in self.answers))
        return f"p50 {percentile(self.waits(LET_IN), 0.5):.0f} ms; answers {statuses}; ms of CPU per login: {cost}"

    @property
    def decisions(self) -> int:
        """How many decisions there were."""
        return round(max(self.within.values(), default=0))

    def decision_ms(self, share: float) -> float:
        """Return a quantile of the decisions' time, as if they were spread evenly inside the bucket that it is in."""
        wanted, low, below = share * self.decisions, 0.0, 0.0
        for bound, count in self.within.items():
            if count >= wanted and count > below:
                into = (wanted - below) / (count - below)
                return 1000 * (low if bound == float("inf") else low + (bound - low) * into)
            low, below = bound, count
        return 0.0


async def send_logins(
    folder: Path, urls: Sequence[str], logins: Sequence[Login], rate: int, watched: Mapping[str, int]
) -> Sent:
    """Send logins, `rate` a second, in turns to every process; `watched` are processes whose CPU time is told.

    Raises:
        CheckFailedError: one of them was not sent, or not answered.
    """
    name = secrets.token_hex(4)
    requests, journal = folder / f"logins-{name}", folder / f"answers-{name}"
    spec = LoadSpec(
        ports=[urlsplit(url).port or 0 for url in urls],
        requests=str(requests),
        connections=_CONNECTIONS,
        duration_s=len(logins) / rate + _LATE_S,  # it ends with its requests, which are due before
        drain_s=_LATE_S,
        rate=rate,
        good=f"{LET_IN}/",
        journal=str(journal),
    )
    try:
        await asyncio.to_thread(write_requests, requests, [login.request() for login in logins])
        before, watch = await _decisions(urls), CpuWatch(watched)
        watch.start()
        began = time.monotonic()
        result = await run_load(spec)
        took, cores, after = time.monotonic() - began, watch.cores(), await _decisions(urls)
        entries = read_journal(journal)
    finally:
        for path in (requests, journal):
            path.unlink(missing_ok=True)
    check_equal("logins", due=len(logins), sent=result.sent, answered=result.answered)
    cpu_s = {each: value * took for each, value in cores.items()} | {"client": result.client_cpu * result.window_s}
    return Sent(
        answers=[(entry.status, 1000 * (entry.answered - entry.due)) for entry in entries],
        seconds=max(len(logins) / rate, max(e.answered for e in entries) - min(e.due for e in entries)),
        cpu_s=cpu_s,
        within={bound: count - before.get(bound, 0) for bound, count in after.items()},
    )


async def _decisions(urls: Sequence[str]) -> dict[float, float]:
    """Return how many decisions took at most so many seconds, of all processes together."""
    found: dict[float, float] = defaultdict(float)
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        for url in urls:
            text = (await client.get(f"{url}/metrics")).text
            for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
                if sample.name == _DECISIONS:
                    found[float(sample.labels["le"])] += sample.value
    return dict(sorted(found.items()))
