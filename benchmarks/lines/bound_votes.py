"""Confirmed votes with bound tokens and a proof of possession per vote, checked by both sides."""

from benchmarks.report import Goal, Line, line
from benchmarks.run import Run


async def measure(run: Run) -> list[Line]:
    """Measure ours and *plain* in turns, every vote with a proof of its own."""
    versus = await run.versus_plain(bound=True)
    return [
        line("confirmed votes with proofs, 256 clients", versus.ours.rate, "votes/s", detail=versus.ours.summary),
        line("plain with proofs", versus.peer.rate, "votes/s", detail=f"{versus.peer_served}: {versus.peer.summary}"),
        line(
            "confirmed votes with proofs against plain",
            versus.ratio,
            "x",
            Goal(at_least=1.2),
            versus.ours.typical.checked,
        ),
    ]
