"""Ours against DBOS: one durable workflow of two steps per vote, on the same PostgreSQL."""

from benchmarks.peers import Peer
from benchmarks.products import VoteLoad
from benchmarks.report import Goal, Line, line
from benchmarks.run import Run

_CANDIDATES = tuple((Peer("dbos_votes", processes), clients) for processes in (1, 2) for clients in (16, 64))
_EXPECTED = 600.0


async def measure(run: Run) -> list[Line]:
    """Measure it at its best number of processes and clients, in turns with ours."""
    peer, clients = await run.best_peer(_CANDIDATES, VoteLoad(expected=_EXPECTED))
    load = VoteLoad(clients, run.seconds, expected=_EXPECTED)
    versus = await run.versus(str(peer), lambda: run.peer(peer, load))
    return [
        line("DBOS", versus.peer.rate, "votes/s", detail=f"{peer}: {versus.peer.summary}"),
        line("confirmed votes against DBOS", versus.ratio, "x", Goal(at_least=15), versus.summary),
    ]
