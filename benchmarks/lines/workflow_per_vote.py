"""Ours against itself with one workflow per vote: what it is worth to commit in groups."""

from benchmarks.products import VoteLoad
from benchmarks.report import Goal, Line, line
from benchmarks.run import Run

_IN_FLIGHT = (4, 16, 64)
_CLIENTS = 64
_TRIAL_S = 8.0
_EXPECTED = 400.0


async def measure(run: Run) -> list[Line]:
    """Try several numbers in flight, then measure the best one in turns with ours.

    Callers wait as long as it takes, so that a slow confirmation still counts.
    """
    trials = {}
    for in_flight in _IN_FLIGHT:
        found = await run.votes(VoteLoad(_CLIENTS, _TRIAL_S, expected=_EXPECTED), one_vote_each(in_flight))
        trials[in_flight] = found.load.rate
    best = max(trials, key=lambda each: trials[each])
    load = VoteLoad(_CLIENTS, run.seconds, expected=_EXPECTED)
    versus = await run.versus(f"{best} in flight", lambda: run.votes(load, one_vote_each(best)))
    tried = ", ".join(f"{in_flight} in flight {rate:.0f}/s" for in_flight, rate in trials.items())
    return [
        line("workflow per vote", versus.peer.rate, "votes/s", detail=f"{versus.peer.summary}; trials: {tried}"),
        line("confirmed votes against workflow per vote", versus.ratio, "x", Goal(at_least=30), versus.summary),
    ]


def one_vote_each(in_flight: int) -> dict[str, str]:
    """Return the settings that give every vote a workflow of its own, and callers the time to wait for it."""
    return {
        "COMITIA_VOTE_BATCH_MAX": "1",
        "COMITIA_VOTE_BATCHES_IN_FLIGHT": str(in_flight),
        "COMITIA_VOTE_CONFIRM_TIMEOUT_S": "30",
        "COMITIA_VOTE_START_TIMEOUT_S": "30",
    }
