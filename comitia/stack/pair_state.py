"""Which server of a pair is the primary, and on whom its commits wait: written down before either changes."""

import os
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_FILE = "pair.json"


class Mode(StrEnum):
    """What an acknowledged commit is on, besides the primary."""

    PAIR = "pair"  # the standby's disk and the archive's: the standby may take over
    ALONE = "alone"  # the archive's: the standby is away, being built or catching up, and must not take over


class PairState(BaseModel):
    """One pair at rest and in change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    primary: str
    mode: Mode
    generation: int = 1  # one more with every take-over and every restore

    def next(self, primary: str) -> "PairState":
        """Return the state after another server took over, or this one came back from the archive."""
        return PairState(primary=primary, mode=Mode.ALONE, generation=self.generation + 1)

    def write(self, folder: Path) -> None:
        """Replace what is written down in one step; it is on the disk when this returns."""
        target = folder / _FILE
        fresh = target.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(self.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_pair_state(folder: Path) -> PairState | None:
    """Return what is written down, or None where there was never a pair."""
    path = folder / _FILE
    return PairState.model_validate_json(path.read_text()) if path.exists() else None
