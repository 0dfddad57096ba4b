"""The long form of the rolling restart: `python -m tests.faults.rolling --rounds 5 --votes 100`, or `make rolling`.

Replaces every process once per round under load, and ends with status 1 where a client that repeats once saw a failure,
or ledger and results differ from what was acknowledged.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from comitia.stack.rolling import roll
from comitia.stack.state import CELLS
from comitia.up import allow_many_files
from tests.end_to_end.house import open_house
from tests.faults.steady import Steady

_EACH_EVERY_S = 0.1


def say(text: str) -> None:
    """Tell who watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(rounds: int, votes_per_s: int, streams: int) -> int:
    """Roll so many times; return the exit status."""
    allow_many_files()
    with tempfile.TemporaryDirectory(prefix="comitia-rolling-") as folder:
        async with open_house(Path(folder)) as house:
            survey = await house.open_survey(title="Goes on")
            steady = Steady(house, survey, streams=streams, vote_every_s=_EACH_EVERY_S)
            steady.voters_at_once = max(1, round(votes_per_s * _EACH_EVERY_S))
            steady.voters += [(await house.voter(cell))[1] for cell in CELLS for _ in range(50)]
            async with steady.running():
                await steady.more_votes(20)
                for number in range(rounds):
                    began = time.monotonic()
                    await roll(house.supervisor, say=say)
                    say(f"round {number + 1}: {time.monotonic() - began:.0f} s, {len(steady.acknowledged)} votes")
                if not steady.failures:
                    await steady.watched(len(steady.acknowledged))
            say(f"answered {dict(steady.answered)}, acknowledged votes {len(steady.acknowledged)}")
            say(f"streams opened {sum(watcher.connections for watcher in steady.watchers)} times")
            for what, times in steady.repeated.most_common():
                say(f"repeated {times} times: {what}")
            for failure in steady.failures:
                say(f"FAILED {failure}")
            await steady.all_recorded_once()
            say("every acknowledged vote is recorded once, and the results say the same")
            return 1 if steady.failures else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--votes", type=int, default=100, help="per second")
    parser.add_argument("--streams", type=int, default=20)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.rounds, given.votes, given.streams)))
