"""How many votes a cell is given at once: what it answers within a bound, shared fairly between surveys."""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

_SAMPLES: Final = 10  # of one call of `adapt` each


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """`least` are always taken; above that as many as are answered in `wait_s` at the rate of now, up to `most`."""

    least: int
    most: int
    wait_s: float


class VoteIntake:
    """Counts the votes of one cell whose callers wait, from being submitted or asking the ledger to being answered.

    By Little's law a vote waits as long as the votes before it take; so a bound on how many wait, made of the rate at
    which they are answered, is a bound on how long. While it is reached, a survey is still let in up to its share: a
    hot survey fills what the others leave.
    """

    def __init__(self, limits: IntakeLimits) -> None:
        self._limits = limits
        self._surveys: Counter[str] = Counter()
        self._answered = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)  # seconds, answers
        self.votes = 0
        self.rate = 0.0  # answers per second, of late
        self.limit = limits.least
        self.full = False

    def takes(self, survey_id: str) -> bool:
        """Tell whether another vote of a survey is taken now."""
        if self.votes < self.limit:
            return True
        if self.votes >= self._limits.most:
            return False
        of_survey = self._surveys[survey_id]
        return of_survey < max(1, self.limit // (len(self._surveys) + (of_survey == 0)))

    def enter(self, survey_id: str) -> None:
        """A vote is taken."""
        self._surveys[survey_id] += 1
        self.votes += 1
        self.full = self.votes >= self.limit

    def leave(self, survey_id: str, *, answered: bool = True) -> None:
        """A vote is answered, whatever the answer; or it only gives its place up, and nothing is known of the rate."""
        left = self._surveys[survey_id] - 1
        if left:
            self._surveys[survey_id] = left
        else:
            del self._surveys[survey_id]
        self.votes -= 1
        self._answered += answered
        self.full = self.votes >= self.limit

    def adapt(self, seconds: float) -> None:
        """Take in what was answered in the last `seconds`, and set the limit by the rate of the last samples."""
        self._samples.append((seconds, self._answered))
        self._answered = 0
        passed = sum(sample[0] for sample in self._samples)
        self.rate = sum(sample[1] for sample in self._samples) / passed if passed else 0.0
        self.limit = min(self._limits.most, max(self._limits.least, round(self.rate * self._limits.wait_s)))
        self.full = self.votes >= self.limit
