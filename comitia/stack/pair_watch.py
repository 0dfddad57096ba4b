"""Keeps a pair a pair: lets the standby take over from a primary that is gone, and builds the missing one again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from comitia.stack.pair_state import Mode
from comitia.stack.postgres_member import ARCHIVE
from comitia.stack.postgres_pair import READY_WITHIN_S, TROUBLE, PostgresPair, until
from comitia.stack.process import StartError
from integrations.postgres.replication import Receiver

SILENT_S = 8.0  # so long without an answer, a primary counts as gone; one whose process ended does at once
_LOOK_EVERY_S = 0.5
_ANSWER_WITHIN_S = 3.0
_STANDBY_AWAY_S = 30.0  # a standby that does not stream for so long is built anew
_RETRY_S = 1.0
HOLD = "held"  # while a file of this name is in the pair's folder, everything is stopped: somebody restores


class PairWatch:
    """Runs a pair: within `async with` it is up, commits in three places, and every loss of one is made good.

    `changed` is called when processes were started, stopped or changed their part.
    """

    def __init__(self, pair: PostgresPair, *, changed: Callable[[], None] = lambda: None) -> None:
        self.pair = pair
        self._changed = changed
        self._complete = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._building: asyncio.Task[None] | None = None
        self._standby_seen = 0.0

    async def __aenter__(self) -> Self:
        """Return when commits wait for standby and archive, and there is a base backup to start from.

        Raises:
            StartError: it did not come to that; what had started is stopped again.
        """
        try:
            # Whoever restores in a stack that is stopped keeps us from starting: this one was left behind.
            await asyncio.to_thread((self.pair.place.folder / HOLD).unlink, missing_ok=True)
            await self.pair.start()
            self.resume()
            await self.complete(READY_WITHIN_S)
            if not self.pair.archive.backups():
                await self.pair.archive.back_up(self.pair.primary)
        except BaseException as error:
            await self.__aexit__()
            if isinstance(error, TimeoutError):
                raise StartError(f"{self.pair.name} had no standby after {READY_WITHIN_S:.0f} s") from None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Watch no longer, and stop everything."""
        await self.leave()
        await self.pair.stop()

    def resume(self) -> None:
        """Watch again, after `leave`."""
        self._complete.clear()
        self._watching = asyncio.create_task(self._watch(), name=f"watch-{self.pair.name}")

    async def leave(self) -> None:
        """Watch no longer; what runs goes on. Safe to repeat."""
        for task in (self._watching, self._building):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._watching = self._building = None

    async def complete(self, within_s: float) -> None:
        """Wait until the standby may take over. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            await self._complete.wait()

    async def _watch(self) -> None:
        while True:
            try:
                if (self.pair.place.folder / HOLD).exists():
                    await self._hold()
                await self._watch_primary()
            except TROUBLE as error:
                self.pair.say(f"{self.pair.name}: {type(error).__name__} {error}; tried again")
                await asyncio.sleep(_RETRY_S)

    async def _watch_primary(self) -> None:
        """Look after one primary until there is another, or until trouble."""
        primary, seen = self.pair.primary, time.monotonic()
        self._standby_seen = seen
        probe = primary.replication
        try:
            while not (self.pair.place.folder / HOLD).exists():
                gone = None
                if primary.process.pid is None:
                    gone = "ended"
                elif await probe.is_primary(_ANSWER_WITHIN_S):
                    seen = time.monotonic()
                    await self._look_after_others(await probe.receivers(_ANSWER_WITHIN_S))
                elif time.monotonic() - seen > SILENT_S:
                    gone = f"did not answer for {SILENT_S:.0f} s"
                if gone is not None:
                    await self._replace(gone)
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(primary.process.wait(), _LOOK_EVERY_S)
        finally:
            probe.close()

    async def _replace(self, why: str) -> None:
        self._complete.clear()
        pair = self.pair
        if pair.may_take_over() and not self._is_building():
            try:
                await pair.take_over(why)
            except StartError as error:
                pair.say(f"{pair.standby.process.name} cannot take over: {error}")
            else:
                self._changed()
                return
        pair.say(f"{pair.primary.process.name} {why}: started again")
        await pair.primary.process.kill()
        await pair.lead()
        self._changed()

    async def _look_after_others(self, receivers: Mapping[str, Receiver]) -> None:
        pair, now = self.pair, time.monotonic()
        if pair.archive.process.pid is None:
            pair.say(f"{pair.archive.process.name} ended: started again")
            await pair.archive.follow(pair.primary)
            self._changed()
        found = receivers.get(pair.standby.name)
        if found is not None and found.streaming:
            self._standby_seen = now
            if pair.state.mode is Mode.ALONE and ARCHIVE in receivers:
                await pair.complete()
            elif ARCHIVE in receivers:
                self._complete.set()
            return
        self._complete.clear()
        if self._is_building():
            return
        if pair.standby.process.pid is None or now - self._standby_seen > _STANDBY_AWAY_S:
            self._building = asyncio.create_task(self._bring_standby(), name=f"standby-{pair.name}")
            self._standby_seen = now

    async def _bring_standby(self) -> None:
        """Start the standby on what it has, or where that does not do, on a new copy."""
        pair = self.pair
        try:
            if pair.standby.process.pid is None and pair.standby.follows and pair.state.mode is Mode.PAIR:
                try:
                    await pair.standby.start(READY_WITHIN_S)
                except StartError:
                    await pair.build_standby()
            else:
                await pair.build_standby()
            self._changed()
        except TROUBLE as error:
            pair.say(f"{pair.standby.process.name} is not there: {error}")
            await asyncio.sleep(_RETRY_S)

    def _is_building(self) -> bool:
        return self._building is not None and not self._building.done()

    async def _hold(self) -> None:
        """Stop everything and say so; go on with whatever is there once the file is gone."""
        hold = self.pair.place.folder / HOLD
        self._complete.clear()
        if self._building is not None:
            self._building.cancel()
            await asyncio.gather(self._building, return_exceptions=True)
        await self.pair.stop()
        self._changed()
        hold.write_text("stopped")
        self.pair.say(f"{self.pair.name} is held for a restore")
        await until(_gone(hold), every_s=_LOOK_EVERY_S)
        await self.pair.start()
        self._changed()
        self.pair.say(f"{self.pair.name} serves again")


def _gone(file: Path) -> Callable[[], Awaitable[bool]]:
    async def gone() -> bool:
        return not await asyncio.to_thread(file.exists)

    return gone
