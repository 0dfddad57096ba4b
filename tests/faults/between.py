"""Servers that are kept from each other while everybody else reaches both."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.end_to_end.house import eventually
from tests.faults.experiment import Fault, Place
from tests.faults.networks import disturbed
from tests.faults.proxies import MODES
from tests.faults.servers_apart import BROKERS, PAIRED_CELL, STANDBY_WAY, STORE_WAY, broker_way
from tests.faults.stage import Stage

_COMPLETE_WITHIN_S = 120.0
_ASK_WITHIN_S = 3.0


def between() -> Iterator[Fault]:
    """A standby and its primary, Temporal and its store, one broker and the others."""
    for mode in MODES:
        yield _apart("between/temporal~store", STORE_WAY, mode)
        yield _apart(f"between/brokers~{BROKERS[1]}", broker_way(BROKERS[1]), mode)
        yield _standby_apart(mode)


def _apart(name: str, way: str, mode: str) -> Fault:
    return replace(disturbed(name, [way], mode), place=Place.SERVERS_APART)


def _standby_apart(mode: str) -> Fault:
    straight = _apart("between/standby~primary", STANDBY_WAY, mode)

    @asynccontextmanager
    async def inject(stage: Stage) -> AsyncIterator[None]:
        await _through_proxy(stage)
        async with straight.inject(stage):
            yield

    return replace(straight, inject=inject)


async def _through_proxy(stage: Stage) -> None:
    """Let the standby receive the log through its proxy; one that is built anew goes straight again."""
    assert stage.proxies is not None
    watch = stage.house.servers.pairs[PAIRED_CELL]
    await watch.complete(_COMPLETE_WITHIN_S)
    pair, way = watch.pair, stage.proxies.ways[STANDBY_WAY]
    standby, replication = pair.standby, pair.primary.replication
    assert pair.primary.port == way.upstream, "the pair has changed its parts"
    standby.write_settings({"primary_conninfo": standby.place.connection(way.listen, standby.name)})
    assert standby.process.pid is not None
    os.kill(standby.process.pid, signal.SIGHUP)

    async def streams() -> bool:
        found = await replication.receivers(_ASK_WITHIN_S)
        return standby.name in found and found[standby.name].streaming

    try:
        await eventually(streams, what="the standby streams through its proxy")
    finally:
        replication.close()
