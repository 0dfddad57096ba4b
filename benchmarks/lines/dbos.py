"""Ours against DBOS: one durable workflow of two steps per vote, on the same PostgreSQL."""

from benchmarks.peers import Peer
from benchmarks.products import VoteLoad
from benchmarks.report import Goal, Line, line
from benchmarks.run import Run

_CANDIDATES = tuple((Peer("dbos_votes", processes), clients) for processes in (1, 2) for clients in (16, 64))
_EXPECTED = 600.0


async def measure(run: Run) -> list[Line]:
    """Measure it at its best number of processes and clients."""
    peer, clients = await run.best_peer(_CANDIDATES, VoteLoad(expected=_EXPECTED))
    found = await run.peer(peer, VoteLoad(clients, run.seconds, expected=_EXPECTED))
    ours = (await run.versus_plain()).ours.rate
    return [
        line("DBOS", found.load.rate, "votes/s", detail=f"{peer}: {found.summary}; {found.checked}"),
        line("confirmed votes against DBOS", ours / found.load.rate, "x", Goal(at_least=15)),
    ]
