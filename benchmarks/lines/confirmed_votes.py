"""Confirmed votes per second with everything on, against *plain* at its best."""

from benchmarks.products import VoteLoad
from benchmarks.report import Goal, Line, line
from benchmarks.run import CLIENTS, Run

_OTHER_CLIENTS = (64, 500)
_TRIAL_S = 8.0


async def measure(run: Run) -> list[Line]:
    """Measure both in turns; then ours at other numbers of clients, once each."""
    versus = await run.versus_plain()
    best, at = versus.ours.rate, CLIENTS
    for clients in _OTHER_CLIENTS:
        found = await run.votes(VoteLoad(clients=clients, seconds=_TRIAL_S))
        if found.load.rate > best:
            best, at = found.load.rate, clients
    return [
        line("confirmed votes, 256 clients", versus.ours.rate, "votes/s", detail=versus.ours.summary),
        line("confirmed votes, best number of clients", best, "votes/s", detail=f"at {at} clients"),
        line("plain", versus.peer.rate, "votes/s", detail=f"{versus.peer_served}: {versus.peer.summary}"),
        line("confirmed votes against plain", versus.ratio, "x", Goal(at_least=1.2), versus.ours.typical.checked),
    ]
