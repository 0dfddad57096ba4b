"""Bugs that are planted on purpose: a copy of our source with one thing wrong in it, for processes to run."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.stage import Stage

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("domain", "workflows", "activities", "integrations", "api", "workers")
_UNIQUE = "uq_participation_survey_nullifier"


@dataclass(frozen=True, slots=True)
class Patch:
    """In the file `path` the text `right` stands once, and is replaced."""

    path: str
    right: str
    wrong: str

    def apply(self, folder: Path) -> None:
        """Make it wrong in a copy. Raises AssertionError where the source has changed: the bug must follow it."""
        file = folder / self.path
        text = file.read_text()
        assert text.count(self.right) == 1, f"{self.path} no longer has this once: {self.right!r}"
        file.write_text(text.replace(self.right, self.wrong))


def copied_source(folder: Path, *patches: Patch) -> Path:
    """Return a copy of our source with these patches."""
    for package in _PACKAGES:
        shutil.copytree(_ROOT / package, folder / package)  # with what is compiled: only what is patched is not current
    for patch in patches:
        patch.apply(folder)
    return folder


@asynccontextmanager
async def planted(stage: Stage, folder: Path, names: Sequence[str], *patches: Patch) -> AsyncIterator[None]:
    """Run processes from a copy of our source with a bug in it, until the end of the block."""
    async with stage.changed(names, folder=copied_source(folder, *patches)):
        yield


NO_CONFLICT = Patch(
    "integrations/postgres/ledger.py", f"ON CONFLICT ON CONSTRAINT {_UNIQUE} DO NOTHING\nRETURNING", "RETURNING"
)
ANSWER_FIRST = Patch(
    "api/votes/gateway.py",
    "        otel_context.attach(batch.trace)",
    "        batch.answer(lambda index: Confirmed(self._place(number, index), Outcome.RECORDED))\n"
    "        otel_context.attach(batch.trace)",
)
COUNT_AGAIN = Patch("integrations/redis/fold.lua", "ARGV[9 + 2 * i]) == 1 then seen", "ARGV[9 + 2 * i]) == 2 then seen")
GIVE_UP = Patch(
    "workflows/policies.py",
    "COMMIT = ActivityConfig(  # one transaction; no schedule-to-close: an outage of any length ends in a record\n",
    "COMMIT = ActivityConfig(\n    schedule_to_close_timeout=timedelta(seconds=1),\n",
)


@asynccontextmanager
async def without_constraint(stage: Stage, cell: str) -> AsyncIterator[None]:
    """Take the guard of all guards out of a cell's ledger, and put it back without what slipped in."""
    owner = stage.house.owners[cell]
    async with AsyncExitStack() as lifetime:
        await owner.execute(f"ALTER TABLE voting.participation DROP CONSTRAINT {_UNIQUE}")

        async def put_back() -> None:
            async with owner.acquire() as connection, connection.transaction():
                await connection.execute("ALTER TABLE voting.participation DISABLE TRIGGER USER")
                await connection.execute(
                    "DELETE FROM voting.participation AS one USING voting.participation AS other "
                    "WHERE (one.survey_id, one.nullifier) = (other.survey_id, other.nullifier) "
                    "AND one.ctid > other.ctid"
                )
                await connection.execute("ALTER TABLE voting.participation ENABLE TRIGGER USER")
                await connection.execute(
                    f"ALTER TABLE voting.participation ADD CONSTRAINT {_UNIQUE} UNIQUE (survey_id, nullifier)"
                )

        lifetime.push_async_callback(put_back)
        yield
