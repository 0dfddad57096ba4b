"""What a fault happens to: a whole platform, voters with real ballot papers, and doors to vote at."""

import asyncio
import os
import random
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from comitia.demo.client import HttpClient
from comitia.demo.glasgow import Ballot, Election, read_election
from comitia.demo.survey import PublishedElection, publish
from comitia.demo.voters import Habit, Voter
from comitia.stack.applications import Application
from comitia.stack.process import ManagedProcess, StartError
from comitia.stack.supervisor import Supervisor
from domain.tokens import Role
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import KEK_BALLOT
from integrations.settings import Environment
from tests.end_to_end.house import House, eventually
from tests.faults.crowd import Doors
from tests.faults.proxies import Proxies

WARDS = 4  # of the election's 23: each region is read by itself
DOOR = "api-votes"


class _Second(Application):
    __slots__ = ()

    @property
    def name(self) -> str:
        return f"{self.package}-{self.service}-2"


def second(application: Application) -> Application:
    """Return the same service as another process."""
    return _Second(application.package, application.service, application.roles, application.port)


@dataclass
class Stage:
    """`house` with its voters; the same ones vote in every fault's survey."""

    house: House
    folder: Path  # for notebooks
    election: Election
    voters: list[Voter] = field(default_factory=list)
    more_doors: dict[str, str] = field(default_factory=dict)  # processes that take votes and run besides
    proxies: Proxies | None = None  # on every way from a process to a server
    disks: Mapping[str, Path] = field(default_factory=dict)  # file systems that one server has alone
    undiskable: str = ""  # why there are none
    survey: PublishedElection | None = None  # of the experiment that goes on

    @classmethod
    async def of(cls, house: House, folder: Path, *, voters: int, seed: int) -> "Stage":
        """Create the voters: half of them in each cell, each with a paper of the real election."""
        stage = cls(house, folder, read_election())
        chance = random.Random(seed)
        wards = chance.sample(sorted(stage.election.wards), WARDS)
        # about as many papers per ward as there are wards
        sample = stage.election.sample(min(stage.election.papers, 12 * voters), seed)
        papers = [ballot for ballot in sample if ballot.region in wards][:voters]
        assert len(papers) == voters
        homes: dict[tuple[str, str], list[Ballot]] = defaultdict(list)
        for number, paper in enumerate(papers):
            homes[sorted(house.directories)[number % 2], paper.region].append(paper)
        for (cell, region), found in homes.items():
            ids = await house.directories[cell].create_voters(len(found), region)
            stage.voters += [
                Voter(voter_id, cell, paper, Habit.NONE) for voter_id, paper in zip(ids, found, strict=True)
            ]
        return stage

    @property
    def doors(self) -> Doors:
        """Where votes are taken and tokens given."""
        urls = self.house.supervisor.urls
        votes = {name: url for name, url in urls.items() if name.startswith(DOOR)}
        return Doors({**votes, **self.more_doors}, urls["api-eligibility"])

    @property
    def keys(self) -> FileKms:
        """The development key service, to open ballots with."""
        folder = self.house.state.settings_for(environment=Environment.TEST).keys_folder
        assert folder is not None
        return FileKms(folder, frozenset({KEK_BALLOT}))

    @property
    def processes(self) -> dict[str, ManagedProcess]:
        """Every process, servers and applications, by name."""
        return {**self.house.servers.processes, **self.house.supervisor.processes}

    async def publish(self) -> PublishedElection:
        """Put up the election as a fresh survey, open in every cell."""
        surveys = HttpClient(self.house.supervisor.url("surveys"))
        try:
            self.survey = await publish(surveys, self.house.access.staff("u_faults", [Role.ADMIN]), self.election)
        finally:
            surveys.close()
        return self.survey

    async def start(self, name: str) -> None:
        """Start a process that ended, and wait until it is ready."""
        if name in self.house.supervisor.processes:
            await self.house.supervisor.start(name)
            return

        async def started() -> bool:
            try:
                await self.house.servers.start(name)
            except StartError:  # PostgreSQL's orphans may hold its memory for a moment longer
                return False
            return True

        await eventually(started, what=f"{name} started again")

    async def revive(self) -> list[str]:
        """Start whatever ended by itself, servers first, as a supervisor does; return what that was."""
        dead = [name for name, process in self.processes.items() if process.pid is None]
        for group in (self.house.servers.processes, self.house.supervisor.processes):
            await asyncio.gather(*(self.start(name) for name in dead if name in group))
        return dead

    @asynccontextmanager
    async def second_door(self) -> AsyncIterator[None]:
        """Run another process that takes votes, until the end of the block."""
        first = self.house.supervisor
        application = second(next(each for each in first.applications if each.name == DOOR))
        async with Supervisor(self.house.state, applications=[application], environment=Environment.TEST) as supervisor:
            self.more_doors = supervisor.urls
            try:
                yield
            finally:
                self.more_doors = {}

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Keep a process and its children from doing anything: connections stay, no answer comes."""
        family = _family(self.processes[name])
        for process in family:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in family:
                os.kill(process.pid, signal.SIGCONT)

    @asynccontextmanager
    async def changed(
        self, names: Sequence[str], environment: dict[str, str] | None = None, folder: Path | None = None
    ) -> AsyncIterator[None]:
        """Run processes with more variables, or applications from another folder's source, until the end of the block.

        A server is started anew with everything else still running.
        """
        processes = [self.processes[name] for name in names]
        before = [(process.environment, process.folder) for process in processes]
        for process in processes:
            own = os.environ if process.environment is None else process.environment
            process.environment = {**own, **(environment or {})}
            if folder is not None:
                process.folder, process.environment = folder, _unmeasured(process.environment)
        try:
            await self._restart(names)
            yield
        finally:
            for process, (variables, place) in zip(processes, before, strict=True):
                process.environment, process.folder = variables, place
            await self._restart(names)

    async def _restart(self, names: Sequence[str]) -> None:
        await asyncio.gather(*(self.processes[name].stop() for name in names))
        # the stand-alone worker first: whoever starts eagerly needs somebody who can go on with it
        for group in (True, False):
            chosen = [name for name in names if name.startswith("workers") is group]
            await asyncio.gather(*(self.start(name) for name in chosen))


def _unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those of coverage: what runs from elsewhere is not our source."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


def _family(process: ManagedProcess) -> list[psutil.Process]:
    assert process.pid is not None, f"{process.name} does not run"
    found = psutil.Process(process.pid)
    return [found, *found.children(recursive=True)]
