"""Proofs that other processes have seen: once in a cell, asked together, and nobody waits for a memory that is away."""

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from api.http.used_proofs import CellProofs, UsedProofs
from api.shared_calls import PAUSE_S
from domain.errors import DomainError, ErrorCode

A, B = b"a" * 16, b"b" * 16


class Memory:
    """What the processes of a cell share, which a test can hold up and make fail."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.groups: list[int] = []
        self.is_down = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def use(self, proofs: Sequence[bytes]) -> list[bool]:
        self.groups.append(len(proofs))
        await self.goes_on.wait()
        if self.is_down:
            raise DomainError(ErrorCode.USED_PROOFS_UNAVAILABLE)
        new = [proof not in self.seen for proof in proofs]
        self.seen |= set(proofs)
        return new


class Clock:
    """A time that a test sets."""

    at = 0.0

    def __call__(self) -> float:
        return self.at


def processes(memory: Memory, clock: Clock, count: int = 2, *, limit_s: float = 10) -> list[CellProofs]:
    return [CellProofs("eu", memory, limit_s=limit_s, now=clock) for _ in range(count)]


async def is_refused(proofs: UsedProofs, proof: bytes, cell: str | None = None) -> bool:
    try:
        await proofs.use(proof, cell)
    except DomainError as error:
        return error.code is ErrorCode.PROOF_INVALID
    return False


async def test_a_proof_is_used_once_in_its_cell() -> None:
    eu, us = Memory(), Memory()
    one, other = (UsedProofs({"eu": CellProofs("eu", eu), "us": CellProofs("us", us)}) for _ in range(2))
    assert not await is_refused(one, A, "eu")
    assert await is_refused(other, A, "eu")
    assert not await is_refused(other, A, "us"), "a cell asks its own memory alone"
    assert not await is_refused(other, B, "eu")


@pytest.mark.parametrize("cell", [None, "elsewhere"])
async def test_proofs_of_whoever_has_no_cell_here_are_the_first_ones(cell: str | None) -> None:
    eu, us = Memory(), Memory()
    one = UsedProofs({"eu": CellProofs("eu", eu), "us": CellProofs("us", us)})
    assert not await is_refused(one, A, cell)
    assert (eu.seen, us.seen) == ({A}, set())


async def test_who_brings_no_proof_is_asked_for_none() -> None:
    memory = Memory()
    proofs = UsedProofs({"eu": CellProofs("eu", memory)})
    for _ in range(2):
        assert not await is_refused(proofs, b"", "eu")
    assert memory.groups == []


async def test_who_comes_at_once_is_asked_for_together() -> None:
    memory = Memory()
    memory.goes_on.clear()
    (one,) = processes(memory, Clock(), 1)
    asked = [asyncio.create_task(one.is_first_use(bytes([number]) * 16)) for number in range(100)]
    await asyncio.sleep(0.01)
    memory.goes_on.set()
    assert all(await asyncio.gather(*asked))
    assert memory.groups in ([1, 99], [100])


@pytest.mark.parametrize("is_late", [True, False])
async def test_nobody_is_refused_for_a_memory_that_is_away_or_waits_for_it(is_late: bool) -> None:  # noqa: FBT001
    memory, clock = Memory(), Clock()
    (one,) = processes(memory, clock, 1, limit_s=0.02)
    memory.is_down = True
    if is_late:
        memory.goes_on.clear()
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            assert await one.use([A, B]) == [True, True]
            assert await one.is_first_use(A)
        assert len(memory.groups) == 1, "what has failed is left alone for a while"
        memory.is_down = False
        memory.goes_on.set()
        clock.at += PAUSE_S
        assert await one.is_first_use(A)
    assert [log["event"] for log in logs] == ["shared_calls_failing", "shared_calls_answered"]
    assert await one.use([A, B]) == [False, True]
