"""PostgreSQL with a synchronous standby: no commit is acknowledged before it is in three places, so one may be lost.

The three are the primary, the standby, and the archive (`pg_receivewal`). A primary whose standby or archive is away
commits nothing; so a standby can be promoted without anybody knowing whether the old primary is dead: it cannot
acknowledge without the one that has just left it. The survivor goes on with the archive alone, and takes a standby
back once that has been built and has caught up. docs/adr/0004 says why.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from comitia.stack.account import give
from comitia.stack.pair_state import Mode, PairState, read_pair_state
from comitia.stack.postgres_archive import Archive
from comitia.stack.postgres_member import ARCHIVE, Member, PairPlace
from comitia.stack.process import ManagedProcess, StartError
from comitia.stack.state import new_secret
from integrations.addresses import Address
from integrations.postgres.failures import UNAVAILABLE
from integrations.postgres.provision import Administrator
from integrations.postgres.replication import Replication

MEMBERS = ("a", "b")
READY_WITHIN_S = 60.0
TROUBLE = (*UNAVAILABLE, StartError)  # what a server that is away, or does not start, is known by
_RECEIVERS = {Mode.PAIR: f"FIRST 2 ({', '.join(MEMBERS)}, {ARCHIVE})", Mode.ALONE: f"FIRST 1 ({ARCHIVE})"}
_PLACES = (*MEMBERS, ARCHIVE)  # in the order of the setting: a receiver's priority is its place
_ANSWERS_WITHIN_S = 2.0
_HEIR_ANSWERS_WITHIN_S = 10.0  # a busy machine is no reason to bring back the one that was lost
_LOOK_AGAIN_S = 0.05


class PostgresPair:
    """A primary, its synchronous standby and the archive in one folder.

    It knows nothing of what is stored: roles and databases are made by the caller, as in any server, through
    `primary.address` and `administrator`. Clients get the addresses of both `members`, and use the one that is primary
    and commits; a client that takes one address only goes through `comitia.stack.forwarder`. `PairWatch` keeps it so.
    """

    def __init__(
        self, name: str, place: PairPlace, ports: tuple[int, int], *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Name a pair; nothing runs yet. The folder of `place` is made where there is none."""
        self.name = name
        self.place = place
        self.say = say
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        give(place.folder, place.account)
        self._members = {each: Member(name, each, place, port) for each, port in zip(MEMBERS, ports, strict=True)}
        self.archive = Archive(name, place)
        self.take_overs: list[float] = []  # seconds from the decision until the new primary commits
        self._state = read_pair_state(place.folder)

    @property
    def members(self) -> tuple[Address, Address]:
        """Addresses of both servers, in no order that means anything."""
        first, second = (self._members[each].address for each in MEMBERS)
        return first, second

    @property
    def state(self) -> PairState:
        """Who is the primary, and on whom its commits wait."""
        assert self._state is not None, "the pair was never started"
        return self._state

    @property
    def primary(self) -> Member:
        """The server that writes."""
        return self._members[self.state.primary]

    @property
    def standby(self) -> Member:
        """The other one."""
        return next(member for each, member in self._members.items() if each != self.state.primary)

    @property
    def administrator(self) -> Administrator:
        """Who may make databases and roles; the same on both."""
        return self.place.administrator

    @property
    def processes(self) -> dict[str, ManagedProcess]:
        """The three processes by name."""
        found = [*(member.process for member in self._members.values()), self.archive.process]
        return {process.name: process for process in found}

    async def start(self) -> None:
        """Start the primary with its archive; everything is made at the first start. The standby is the watch's.

        Raises:
            StartError: it did not come up, and no standby may take its place.
        """
        self._state = read_pair_state(self.place.folder)
        await asyncio.to_thread(self.archive.prepare)
        if self._state is None:
            await self._make()
            return
        try:
            await self.lead()
        except TROUBLE as error:
            if not self.may_take_over():
                raise
            await self.take_over(f"did not start: {error}")

    async def stop(self) -> None:
        """Stop the primary, then those who follow it: they have all of its log. Safe to repeat."""
        if self._state is None:
            return
        await self.primary.process.stop()
        await asyncio.gather(self.standby.process.stop(), self.archive.process.stop())

    async def serves(self, within_s: float) -> None:
        """Wait until the primary that is written down commits, whoever runs it. Raises TimeoutError."""

        async def commits() -> bool:
            self._state = read_pair_state(self.place.folder)
            try:
                await self.primary.replication.prove(_ANSWERS_WITHIN_S)
            except TROUBLE:
                return False
            return True

        async with asyncio.timeout(within_s):
            await until(commits)

    def may_take_over(self) -> bool:
        """Tell whether the standby has every commit that was ever acknowledged."""
        return self.state.mode is Mode.PAIR and self.standby.follows

    async def lead(self) -> None:
        """Let the primary of the state serve, with the archive after it; safe to repeat, also where it was cut short.

        Raises:
            StartError: it did not start, or does not become primary.
        """
        member = self.primary
        if member.process.pid is None:
            await member.start(READY_WITHIN_S)
        replication = member.replication
        if self.state.mode is Mode.ALONE:
            await replication.demand(_RECEIVERS[Mode.ALONE])
        await replication.promote(READY_WITHIN_S)
        await replication.ensure_slots((self.standby.name, ARCHIVE))
        await self.archive.follow(member)
        if self.state.mode is Mode.ALONE:
            await replication.prove(READY_WITHIN_S)

    async def take_over(self, why: str) -> None:
        """Make the standby the primary. What it is to be is written down first, so that a cut leaves no doubt.

        Raises:
            StartError: the standby does not answer; nothing has changed then.
        """
        began, old, heir = time.monotonic(), self.primary, self.standby
        if heir.process.pid is None:
            await heir.start(READY_WITHIN_S)
        elif not await heir.answers(_HEIR_ANSWERS_WITHIN_S):
            raise StartError(f"{heir.process.name} does not answer")
        self.say(f"{old.process.name} {why}: {heir.process.name} takes over")
        await self.archive.process.stop()
        self._remember(self.state.next(heir.name))
        # Nothing rests on this: it could not commit any more. It only ends connections that would wait in vain.
        await old.process.kill()
        await self.lead()
        self.take_overs.append(time.monotonic() - began)
        self.say(f"{heir.process.name} commits after {self.take_overs[-1]:.1f} s")

    async def complete(self) -> None:
        """Let commits wait for the standby too, which is streaming; then, and only then, it may take over.

        Raises:
            TimeoutError: it did not catch up; commits wait for the archive alone, as before.
        """
        replication = self.primary.replication
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await replication.demand(_RECEIVERS[Mode.PAIR])
                # Each sender reads settings by itself: until both have, one may let a commit go on the old terms.
                await until(lambda: self._waits_for_both(replication))
                acknowledged_before = await replication.flushed()
                await until(lambda: self._standby_has(replication, acknowledged_before))
        except TROUBLE:
            await replication.demand(_RECEIVERS[Mode.ALONE])
            raise
        finally:
            replication.close()
        self._remember(self.state.model_copy(update={"mode": Mode.PAIR}))
        self.say(f"{self.standby.process.name} stands by {self.primary.process.name}")

    async def build_standby(self) -> None:
        """Make the standby anew from the primary and start it.

        Raises:
            StartError: the primary gave no copy, or it does not start.
        """
        self.say(f"{self.standby.process.name} is built from {self.primary.process.name}")
        await self.standby.make_from(self.primary)
        await self.standby.start(READY_WITHIN_S)

    async def _make(self) -> None:
        first, password = self._members[MEMBERS[0]], new_secret()
        await first.make_empty(new_secret(), _RECEIVERS[Mode.ALONE])
        await first.start(READY_WITHIN_S)
        await first.replication.make_replicator(password)
        await asyncio.to_thread(self.place.write_passfile, password)
        self._remember(PairState(primary=first.name, mode=Mode.ALONE))
        await self.lead()

    async def _waits_for_both(self, replication: Replication) -> bool:
        found = await replication.receivers(_ANSWERS_WITHIN_S)
        wanted = {name: _PLACES.index(name) + 1 for name in (self.standby.name, ARCHIVE)}
        return all(name in found and found[name].priority == place for name, place in wanted.items())

    async def _standby_has(self, replication: Replication, position: int) -> bool:
        found = (await replication.receivers(_ANSWERS_WITHIN_S)).get(self.standby.name)
        return found is not None and found.flushed >= position

    def _remember(self, state: PairState) -> None:
        state.write(self.place.folder)
        self._state = state


async def until(holds: Callable[[], Awaitable[bool]], *, every_s: float = _LOOK_AGAIN_S) -> None:
    """Return once this holds; the caller bounds the time."""
    while True:
        if await holds():
            return
        await asyncio.sleep(every_s)
