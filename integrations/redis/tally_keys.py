"""Where a cell's tally stands in Redis. One hash tag per cell, so that one script may touch all of it.

`totals` is a hash of counts under `region`, a unit separator and the option id (nothing: ballots), and of marks:
`@epoch`, `@seq`, `@ballots`, `@shown` (ballots in the shown copy), per partition `@offset:P` (everything before it is
folded) and, until a rebuild has caught up, `@replay:P` (where to read on from). `shown` is a copy of it for surveys
whose live results move by a minimum step. A survey's batches are remembered by one bit per number and gateway, in
pieces of `CHUNK` numbers.
"""

from dataclasses import dataclass

from domain.batch_bits import BATCHES_PER_CHUNK
from domain.tally import Counts

CHUNK = BATCHES_PER_CHUNK
_SEPARATOR = "\x1f"
_MARK = "@"


@dataclass(frozen=True, slots=True)
class TallyKeys:
    """The names of one cell's keys and channels."""

    prefix: str

    @classmethod
    def of(cls, cell: str) -> "TallyKeys":
        """Return the names of a cell."""
        return cls(f"{cell}:tally:{{{cell}}}")

    @property
    def offsets(self) -> str:
        """Hash of partition to the offset up to which everything is folded, for every survey."""
        return f"{self.prefix}:offsets"

    @property
    def watermarks(self) -> str:
        """Hash of partition to the instant (milliseconds) up to which everything announced is folded."""
        return f"{self.prefix}:watermarks"

    @property
    def installs(self) -> str:
        """A token that changes with every installed rebuild."""
        return f"{self.prefix}:installs"

    def totals(self, survey_id: str) -> str:
        """Counts and marks of a survey."""
        return f"{self.prefix}:totals:{survey_id}"

    def shown(self, survey_id: str) -> str:
        """The copy that the public sees where there is a minimum step."""
        return f"{self.prefix}:shown:{survey_id}"

    def changes(self, survey_id: str) -> str:
        """The channel that tells of every new public snapshot of a survey, as `epoch-seq`."""
        return f"{self.prefix}:changes:{survey_id}"

    def prepared(self, survey_id: str, epoch: int) -> str:
        """A rebuild's counts before they are installed."""
        return f"{self.prefix}:prepared:{survey_id}:{epoch}"

    def chunks(self, survey_id: str, epoch: int) -> str:
        """Set of the names of all bitmaps of a survey and epoch."""
        return f"{self.prefix}:chunks:{survey_id}:{epoch}"

    def bitmap(self, survey_id: str, epoch: int, gateway: str, chunk: int) -> str:
        """One bit per batch number of a gateway, `CHUNK` numbers from `chunk * CHUNK`."""
        return f"{self.prefix}:seen:{survey_id}:{epoch}:{gateway}:{chunk}"


def field_of(region: str, option: str) -> str:
    """Return the hash field of a count."""
    return f"{region}{_SEPARATOR}{option}"


def parse_totals(pairs: dict[bytes, bytes]) -> tuple[dict[str, str], Counts]:
    """Return marks (without their sign) and counts of a hash."""
    marks: dict[str, str] = {}
    counts: Counts = {}
    for raw, value in pairs.items():
        name = raw.decode("utf-8")
        if name.startswith(_MARK) and _SEPARATOR not in name:
            marks[name[1:]] = value.decode("ascii")
        else:
            region, _, option = name.partition(_SEPARATOR)
            counts[region, option] = int(value)
    return marks, counts
