"""One run of the benchmarks: what lines share, measured once and in turns with the peer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median

from benchmarks.ground import Ground
from benchmarks.peers import Peer, cast_votes_at_peer
from benchmarks.products import VoteLoad, VotesMeasured, cast_votes, services

CLIENTS = 256
PLAIN = tuple((Peer("plain", processes), clients) for processes in (1, 2) for clients in (64, 256))
_PLAIN_EXPECTED = 4000.0
_TRIAL_S = 6.0
_OTHERS_MAX = 0.2  # cores: over that, a rate says more about the neighbours
Measure = Callable[[], Awaitable[VotesMeasured]]


@dataclass(frozen=True, slots=True)
class Rounds:
    """The same load several times, in turns with another."""

    runs: tuple[VotesMeasured, ...]

    @property
    def rate(self) -> float:
        """Confirmed votes per second, the median of the rounds."""
        return median(run.load.rate for run in self.runs)

    @property
    def typical(self) -> VotesMeasured:
        """The round of the median (the lower of two)."""
        return sorted(self.runs, key=lambda run: run.load.rate)[(len(self.runs) - 1) // 2]

    @property
    def summary(self) -> str:
        """The typical round, and how far the others were from it."""
        rates = [run.load.rate for run in self.runs]
        spread = f" (rounds {min(rates):,.0f} to {max(rates):,.0f})" if len(rates) > 1 else ""
        others = max(run.others for run in self.runs)
        slow = f"; DISTURBED: others took up to {others:.1f} cores" if others > _OTHERS_MAX else ""
        slow += "; the client was at its limit" if any(run.load.client_was_bottleneck for run in self.runs) else ""
        return self.typical.summary + spread + slow


@dataclass(frozen=True, slots=True)
class Versus:
    """Ours against a peer, both at their best."""

    ours: Rounds
    peer: Rounds
    peer_served: str

    @property
    def ratio(self) -> float:
        """How many times the peer's rate ours is: the median of the rounds' ratios, since neighbours disturb both."""
        return median(a.load.rate / b.load.rate for a, b in zip(self.ours.runs, self.peer.runs, strict=True))

    @property
    def summary(self) -> str:
        """Both, in words."""
        return f"ours {self.ours.summary}. {self.peer_served}: {self.peer.summary}. {self.peer.typical.checked}"


@dataclass(slots=True)
class Run:
    """Hands lines the ground, how long and how often to measure, and what another line has measured already."""

    ground: Ground
    seconds: float = 12.0
    rounds: int = 3
    say: Callable[[str], None] = print
    ballots: int = 1_000_000
    _versus_plain: dict[bool, Versus] = field(default_factory=dict)

    async def votes(self, load: VoteLoad, more: dict[str, str] | None = None) -> VotesMeasured:
        """Start our processes with `more` settings, cast votes, and stop them."""
        async with services(self.ground, more=more) as supervisor:
            measured = await cast_votes(self.ground, supervisor, load)
        self.say(f"  ours: {measured.summary}; {measured.checked}")
        return measured

    async def peer(self, peer: Peer, load: VoteLoad) -> VotesMeasured:
        """Start a peer, cast votes, and stop it."""
        measured = await cast_votes_at_peer(self.ground, peer, load)
        self.say(f"  {peer}: {measured.summary}; {measured.checked}")
        return measured

    async def best_peer(self, candidates: tuple[tuple[Peer, int], ...], load: VoteLoad) -> tuple[Peer, int]:
        """Return the peer and the number of clients with the highest rate in a short trial of each."""
        trials = {}
        for peer, clients in candidates:
            trial = VoteLoad(clients=clients, seconds=_TRIAL_S, expected=load.expected, bound=load.bound)
            trials[peer, clients] = (await self.peer(peer, trial)).load.rate
        return max(trials, key=lambda each: trials[each])

    async def in_turns(self, ours: Measure, peer: Measure) -> tuple[Rounds, Rounds]:
        """Measure peer, ours, peer, ours, and so on: whatever else this machine does falls on both."""
        found: tuple[list[VotesMeasured], list[VotesMeasured]] = ([], [])
        for _ in range(self.rounds):
            found[1].append(await peer())
            found[0].append(await ours())
        return Rounds(tuple(found[0])), Rounds(tuple(found[1]))

    async def versus(self, served: str, peer: Measure, *, bound: bool = False) -> Versus:
        """Return confirmed votes at 256 clients against a peer, measured in turns."""
        load = VoteLoad(clients=CLIENTS, seconds=self.seconds, bound=bound)
        ours, theirs = await self.in_turns(lambda: self.votes(load), peer)
        return Versus(ours, theirs, served)

    async def versus_plain(self, *, bound: bool = False) -> Versus:
        """Return confirmed votes at 256 clients against *plain* at its best; measured once."""
        if bound not in self._versus_plain:
            trial = VoteLoad(expected=_PLAIN_EXPECTED, bound=bound)
            peer, clients = await self.best_peer(PLAIN, trial)
            load = VoteLoad(clients=clients, seconds=self.seconds, expected=_PLAIN_EXPECTED, bound=bound)
            served = f"{peer}, {clients} clients"
            self._versus_plain[bound] = await self.versus(served, lambda: self.peer(peer, load), bound=bound)
        return self._versus_plain[bound]
