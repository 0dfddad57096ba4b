"""Writes a cell's tally: folds batches, installs rebuilds, notes how far everything is folded."""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

from domain.errors import DomainError, ErrorCode
from domain.tally import BALLOTS, Addition, Counts, sum_counts
from integrations.redis.connection import redis_failures
from integrations.redis.tally_keys import CHUNK, TallyKeys, field_of
from integrations.redis.tally_strangers import clear_strange, is_strange, readable

_PIPELINE_BITMAPS = 64  # 512 KiB on the way at a time
_OLD_EPOCHS = 8  # how far back leftovers of rebuilds that were never installed are looked for


@dataclass(frozen=True, slots=True)
class Fold:
    """Batches of one survey and partition; `next_offset` follows the last of their messages."""

    survey_id: str
    epoch: int
    partition: int
    next_offset: int
    minimum_step: int
    additions: tuple[Addition, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of a fold: `batches` counted, `repeats` counted before; or the state is `lost`.

    Lost means that Redis has no totals of the survey, or those of another epoch: nothing was changed.
    """

    batches: int = 0
    ballots: int = 0
    repeats: int = 0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A survey's totals from the ledger, whose `bitmaps` are prepared; reading goes on from `ends`."""

    survey_id: str
    epoch: int
    counts: Counts
    bitmaps: int
    ends: Mapping[int, int]
    minimum_step: int


@dataclass(frozen=True, slots=True)
class Marks:
    """Where a survey's totals stand: their epoch, what is folded per partition, and where to read on from."""

    epoch: int
    offsets: Mapping[int, int]
    replays: Mapping[int, int]


class TallyStore:
    """One cell's tally in Redis. Every call raises DomainError `tally_unavailable` and is safe to repeat."""

    def __init__(self, redis: Redis, cell: str) -> None:
        self._redis = redis
        self.cell = cell
        self.keys = TallyKeys.of(cell)
        self._fold = _script(redis, "fold.lua")
        self._install = _script(redis, "install.lua")
        self._advance = _script(redis, "advance.lua")
        self._settle = _script(redis, "settle.lua")

    async def load_scripts(self) -> None:
        """Give the scripts to the server, so that pipelines can name them by digest."""
        with redis_failures():
            for script in (self._fold, self._install, self._advance, self._settle):
                await self._redis.script_load(script.script)

    async def clear_strange(self, survey_ids: Sequence[str]) -> list[str]:
        """Take away what stands in the tally's places and is of another form, by whoever; return those keys.

        What is taken away counts as lost: totals come again from the ledger, and nobody else's stand still for them.
        """
        return await clear_strange(self._redis, self.keys, survey_ids)

    async def fold(self, folds: Sequence[Fold]) -> list[Folded]:
        """Fold every call in one round trip; batches that were counted before are left out and tried without."""
        results = [Folded() for _ in folds]
        waiting = list(enumerate(folds))
        while waiting:
            answers = await self._send([fold for _, fold in waiting])
            again: list[tuple[int, Fold]] = []
            for (index, fold), answer in zip(waiting, answers, strict=True):
                verdict, repeats = bytes(answer[0]), results[index].repeats
                if verdict == b"OK":
                    ballots = sum(addition.ballots for addition in fold.additions)
                    results[index] = Folded(len(fold.additions), ballots, repeats)
                elif verdict == b"SEEN":
                    seen = set(answer[1])
                    kept = tuple(addition for at, addition in enumerate(fold.additions) if at not in seen)
                    results[index] = Folded(repeats=repeats + len(seen))
                    again.append((index, _with(fold, kept)))
                else:
                    results[index] = Folded(repeats=repeats, lost=True)
            waiting = again
        return results

    async def _send(self, folds: list[Fold]) -> list[Any]:
        with redis_failures():
            async with self._redis.pipeline(transaction=False) as pipe:
                for fold in folds:
                    keys, arguments = self._fold_call(fold)
                    pipe.evalsha(self._fold.sha, len(keys), *keys, *arguments)
                answers = await pipe.execute(raise_on_error=False)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await self.load_scripts()  # Redis lost them; folding twice is safe
            return await self._send(folds)
        for place, answer in enumerate(answers):
            if isinstance(answer, Exception):
                if not is_strange(answer):
                    raise DomainError(ErrorCode.TALLY_UNAVAILABLE, type(answer).__name__) from answer
                survey_id = folds[place].survey_id
                with redis_failures():  # a part may be folded: all of it comes again from the ledger
                    await self._redis.unlink(self.keys.totals(survey_id), self.keys.shown(survey_id))
                answers[place] = [b"MISSING"]
        return list(answers)

    def _fold_call(self, fold: Fold) -> tuple[list[str], list[str | int]]:
        survey_id, epoch = fold.survey_id, fold.epoch
        keys = [self.keys.totals(survey_id), self.keys.shown(survey_id), self.keys.chunks(survey_id, epoch)]
        places: dict[tuple[str, int], int] = {}
        bits: list[str | int] = []
        for addition in fold.additions:
            chunk, bit = divmod(addition.number, CHUNK)
            place = places.get((addition.gateway, chunk))
            if place is None:
                keys.append(self.keys.bitmap(survey_id, epoch, addition.gateway, chunk))
                place = places[addition.gateway, chunk] = len(keys)
            bits += (place, bit)
        counts = sum_counts(fold.additions)
        ballots = sum(votes for (_, option), votes in counts.items() if option == BALLOTS)
        arguments: list[str | int] = [epoch, fold.partition, fold.next_offset, fold.minimum_step]
        arguments += [self.keys.changes(survey_id), ballots, len(fold.additions), *bits]
        for (region, option), votes in counts.items():
            arguments += (field_of(region, option), votes)
        return keys, arguments

    async def prepare(self, survey_id: str, epoch: int, bitmaps: AsyncIterator[tuple[str, int, bytes]]) -> int:
        """Write a rebuild's bitmaps (gateway, chunk, bits as Redis numbers them) and return how many there are."""
        index = self.keys.chunks(survey_id, epoch)
        number = 0
        pipe = self._redis.pipeline(transaction=False)
        async for gateway, chunk, bits in bitmaps:
            key = self.keys.bitmap(survey_id, epoch, gateway, chunk)
            pipe.sadd(index, key)
            pipe.set(key, bits)
            number += 1
            if number % _PIPELINE_BITMAPS == 0:
                with redis_failures():
                    await pipe.execute()
        with redis_failures():
            await pipe.execute()
        return number

    async def install(self, rebuild: Rebuild) -> bool:
        """Put a prepared rebuild in place, also of what is no tally's; False where a later epoch is there.

        Raises:
            DomainError: `tally_unavailable`, also where Redis lost a part on the way.
        """
        survey_id, epoch, counts = rebuild.survey_id, rebuild.epoch, rebuild.counts
        await self.clear_strange([survey_id])
        marks: dict[str, int] = {"@epoch": epoch, "@seq": 1}
        marks["@ballots"] = marks["@shown"] = sum(v for (_, option), v in counts.items() if option == BALLOTS)
        for partition, offset in rebuild.ends.items():
            marks[f"@offset:{partition}"] = marks[f"@replay:{partition}"] = offset
        prepared = self.keys.prepared(survey_id, epoch)
        fields = {field_of(region, option): votes for (region, option), votes in counts.items()}
        keys = [self.keys.totals(survey_id), self.keys.shown(survey_id), prepared]
        keys += [self.keys.chunks(survey_id, epoch), self.keys.installs]
        token = f"{survey_id}:{epoch}:{secrets.token_hex(8)}"
        with redis_failures():
            await self._redis.delete(prepared)
            await self._redis.hset(prepared, items=[item for pair in (fields | marks).items() for item in pair])
            answer = await self._install(
                keys=keys,
                args=[epoch, rebuild.bitmaps, self.keys.changes(survey_id), token, rebuild.minimum_step],
            )
        verdict = bytes(answer[0])
        if verdict == b"LOST":
            raise DomainError(ErrorCode.TALLY_UNAVAILABLE, "lost while rebuilding")
        if verdict == b"STALE":
            await self._forget(survey_id, (epoch,))
            return False
        replaced = int(answer[1])
        await self._forget(survey_id, {*range(max(1, epoch - _OLD_EPOCHS), epoch), *([replaced] if replaced else [])})
        return True

    async def _forget(self, survey_id: str, epochs: Iterable[int]) -> None:
        with redis_failures():
            for epoch in epochs:
                index = self.keys.chunks(survey_id, epoch)
                async for key in self._redis.sscan_iter(index, count=500):
                    await self._redis.unlink(key)
                await self._redis.unlink(index, self.keys.prepared(survey_id, epoch))

    async def marks(self, survey_ids: Sequence[str], partitions: int) -> dict[str, Marks]:
        """Return where the totals of these surveys stand; those without totals are left out."""
        names = ["@epoch"]
        names += [f"@offset:{partition}" for partition in range(partitions)]
        names += [f"@replay:{partition}" for partition in range(partitions)]
        with redis_failures():
            async with self._redis.pipeline(transaction=False) as pipe:
                for survey_id in survey_ids:
                    pipe.hmget(self.keys.totals(survey_id), names)
                answers = await pipe.execute()
        with readable():
            return {
                survey_id: _marks([None if value is None else int(value) for value in answer], partitions)
                for survey_id, answer in zip(survey_ids, answers, strict=True)
                if answer[0] is not None
            }

    async def installs(self) -> str:
        """Return the token of the newest installed rebuild, empty where there is none."""
        with redis_failures():
            token = await self._redis.get(self.keys.installs)
        with readable():
            return token.decode("ascii") if isinstance(token, bytes) else ""

    async def offsets(self) -> dict[int, int]:
        """Return per partition the offset up to which everything is folded."""
        with redis_failures():
            found = await self._redis.hgetall(self.keys.offsets)
        with readable():
            return {int(partition): int(offset) for partition, offset in found.items()}

    async def now_ms(self) -> int:
        """Return the server's clock in milliseconds: the one that all who write watermarks of a cell share."""
        with redis_failures():
            seconds, microseconds = await self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def advance(self, token: str, partitions: int, progress: Mapping[int, tuple[int, int]]) -> int | None:
        """Note offset and watermark (milliseconds, 0: none) per partition, and publish the cell's watermark.

        Returns the cell's watermark in milliseconds (0: none yet), or None where a rebuild was installed since
        `token` was read: nothing is noted then.
        """
        arguments: list[str | int] = [token, partitions, self.keys.watermarks]
        for partition, (offset, watermark_ms) in progress.items():
            arguments += (partition, offset, watermark_ms)
        with redis_failures():
            answer = await self._advance(
                keys=[self.keys.installs, self.keys.offsets, self.keys.watermarks], args=arguments
            )
        return None if int(answer) < 0 else int(answer)

    async def settle(self, survey_id: str, epoch: int, positions: Mapping[int, int]) -> bool:
        """End the catching up of a rebuild, if everything before the noted offsets is folded into it."""
        arguments: list[str | int] = [epoch]
        for partition, offset in positions.items():
            arguments += (partition, offset)
        keys = [self.keys.totals(survey_id), self.keys.offsets, self.keys.shown(survey_id)]
        with redis_failures():
            return bool(await self._settle(keys=keys, args=arguments))


def _script(redis: Redis, name: str) -> AsyncScript:
    return redis.register_script(files("integrations.redis").joinpath(name).read_text("ascii"))


def _with(fold: Fold, additions: tuple[Addition, ...]) -> Fold:
    return Fold(fold.survey_id, fold.epoch, fold.partition, fold.next_offset, fold.minimum_step, additions)


def _marks(values: list[int | None], partitions: int) -> Marks:
    epoch, offsets, replays = values[0] or 0, values[1 : partitions + 1], values[partitions + 1 :]
    return Marks(epoch, _known(offsets), _known(replays))


def _known(values: list[int | None]) -> dict[int, int]:
    return {partition: value for partition, value in enumerate(values) if value is not None}
