"""What came back: an instant per request, a count per kind of answer, and the figures made of them."""

import time
from array import array
from collections import Counter
from itertools import islice
from pathlib import Path

import msgspec

from benchmarks.load.spec import CLIENT_LIMIT, Entry, Latency, LoadResult, LoadSpec, percentile, write_journal


class _Body(msgspec.Struct):
    code: str = ""
    status: str | int = ""  # a problem document's is its HTTP status
    receipt: str = ""
    submissionId: str = ""  # noqa: N815 - the wire's name
    votingToken: str = ""  # noqa: N815
    replayed: bool = False


_SAMPLES = 5
_BODY = msgspec.json.Decoder(_Body)


class Answers:
    """The record of one run over `size` requests; every array has its full size from the start."""

    def __init__(self, spec: LoadSpec, size: int) -> None:
        self._spec = spec
        self._size = size
        status, _, word = spec.good.partition("/")
        self._good = (status.encode(), word)
        self._counts: Counter[tuple[bytes, str]] = Counter()
        self._receipts: list[str] = []
        self._submissions: list[str] = []
        self._tokens: list[str] = []
        self._samples: list[str] = []
        self.sent_at = array("d", bytes(8 * size))
        self._done_at = array("d", bytes(8 * size))  # 0: unanswered; negative: answered, but not good
        self._status = array("H", bytes(2 * size))

    def add(self, index: int, status: bytes, body: bytes) -> None:
        """Record the answer to one request."""
        now = time.perf_counter()
        kind = (status, self._word(body))
        self._counts[kind] += 1
        good = kind == self._good
        self._done_at[index] = now if good else -now
        self._status[index] = int(status)
        if good and len(self._samples) < _SAMPLES:
            self._samples.append(body.decode())

    def add_fault(self, word: str) -> None:
        """Count something that is no answer to any request."""
        self._counts[b"000", word] += 1

    def _word(self, body: bytes) -> str:
        try:
            answer = _BODY.decode(body)
        except msgspec.DecodeError:
            return "unreadable"
        if answer.receipt:
            self._receipts.append(answer.receipt)
        if answer.submissionId:
            self._submissions.append(answer.submissionId)
        if answer.code:
            return answer.code
        if answer.replayed:
            return "replayed"
        if answer.votingToken:
            self._tokens.append(answer.votingToken)
            return "token"
        return answer.status if isinstance(answer.status, str) else ""

    def result(self, sent: int, start: float, end: float, cpu_s: float) -> LoadResult:
        """Return the figures of a run that sent the first `sent` requests between two instants."""
        opened, done = start + self._spec.warmup_s, self._done_at
        good = [index for index in range(sent) if done[index] > 0]
        timed = [index for index in good if opened <= done[index] <= end]
        latency = sorted(1000 * (done[index] - self.sent_at[index]) for index in timed)
        seconds = Counter(int(done[index] - opened) for index in timed)
        answered = sum(1 for index in range(sent) if done[index])
        window = max(end - opened, 1e-9)
        cores = cpu_s / max(end - start, 1e-9)
        if self._spec.timeline:
            Path(self._spec.timeline).write_bytes(array("d", sorted(done[index] for index in good)).tobytes())
        if self._spec.journal:
            entries = zip(self.sent_at, (abs(at) for at in done), self._status, strict=True)
            write_journal(Path(self._spec.journal), (Entry(*values) for values in islice(entries, sent)))
        return LoadResult(
            connections=self._spec.connections,
            sent=sent,
            answered=answered,
            unanswered=sent - answered,
            good=len(good),
            counts={f"{status.decode()}/{word}": count for (status, word), count in sorted(self._counts.items())},
            distinct_receipts=len(set(self._receipts)),
            distinct_submissions=len(set(self._submissions)),
            distinct_tokens=len(set(self._tokens)),
            samples=self._samples,
            window_s=window,
            good_in_window=len(timed),
            rate=len(timed) / window,
            latency_ms=Latency(
                p50=percentile(latency, 0.5),
                p90=percentile(latency, 0.9),
                p99=percentile(latency, 0.99),
                max=latency[-1] if latency else 0.0,
            ),
            per_second=[seconds[second] for second in range(int(window))],
            client_cpu=cores,
            client_us=1e6 * cpu_s / max(answered, 1),
            client_was_bottleneck=cores > CLIENT_LIMIT,
            exhausted=sent >= self._size,
        )
