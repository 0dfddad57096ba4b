"""Workflows of one type as several releases might have them, and activities that leave a trace where they run."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow

_WITHIN = timedelta(seconds=10)


class Traces:
    """Activities that write: whoever runs one is noticed."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @activity.defn(name="pay")
    async def pay(self, whom: str) -> str:
        self._write(f"pay {whom}")
        return whom

    @activity.defn(name="tell")
    async def tell(self, whom: str) -> None:
        self._write(f"tell {whom}")

    def lines(self) -> list[str]:
        return self._file.read_text().splitlines() if self._file.exists() else []

    def _write(self, line: str) -> None:
        with self._file.open("a") as file:
            file.write(line + "\n")


async def _do(name: str, whom: str) -> None:
    await workflow.execute_activity(name, whom, start_to_close_timeout=_WITHIN)


@workflow.defn(name="Pay")
class Pay:
    """What ran then: pays, waits a moment, tells, and tells once more."""

    @workflow.run
    async def run(self, whom: str) -> str:
        await _do("pay", whom)
        await workflow.sleep(timedelta(milliseconds=1))
        await _do("tell", whom)
        await _do("tell", whom)
        return whom


@workflow.defn(name="Pay")
class PayTwice:
    """Pays where it told the second time."""

    @workflow.run
    async def run(self, whom: str) -> str:
        await _do("pay", whom)
        await workflow.sleep(timedelta(milliseconds=1))
        await _do("tell", whom)
        await _do("pay", whom)
        return whom


@workflow.defn(name="Pay")
class PayAtOnce:
    """Does not wait."""

    @workflow.run
    async def run(self, whom: str) -> str:
        await _do("pay", whom)
        await _do("tell", whom)
        await _do("tell", whom)
        return whom


@workflow.defn(name="Pay")
class PayAndEnd:
    """Ends after the payment."""

    @workflow.run
    async def run(self, whom: str) -> str:
        await _do("pay", whom)
        return whom


@workflow.defn(name="Pay")
class PayBadly:
    """Has a bug behind the payment, and a text that nobody may see."""

    @workflow.run
    async def run(self, whom: str) -> str:
        await _do("pay", whom)
        raise RuntimeError(f"{whom} would be named")


async def _at_once(*steps: str | float) -> None:
    """Ask for all of these in one task, in this order: activities by their names, and timers by their seconds."""
    begun = [_do(step, "whom") if isinstance(step, str) else workflow.sleep(timedelta(seconds=step)) for step in steps]
    await asyncio.gather(*begun)


@workflow.defn(name="Gather")
class Gather:
    """What ran then: pays, tells and waits at once."""

    @workflow.run
    async def run(self, _whom: str) -> None:
        await _at_once("pay", "tell", 0.01)


@workflow.defn(name="Gather")
class GatherPayments:
    """Pays where it told."""

    @workflow.run
    async def run(self, _whom: str) -> None:
        await _at_once("pay", "pay", 0.01)


@workflow.defn(name="Gather")
class GatherLate:
    """Waits where it told."""

    @workflow.run
    async def run(self, _whom: str) -> None:
        await _at_once("pay", 0.01, "tell")


@workflow.defn(name="Pay")
class PayAloud:
    """Says something where it runs, and has the same bug."""

    @workflow.run
    async def run(self, whom: str) -> str:
        print("paying", flush=True)  # noqa: T201 - as somebody does who looks for a fault
        await _do("pay", whom)
        raise RuntimeError(f"{whom} would be named")


async def _pay_and_ask(whom: str, ask: Callable[[], object]) -> str:
    """Do what `Pay` does, and ask somebody in the midst of it; make nothing of it where that fails."""
    await _do("pay", whom)
    with suppress(Exception):
        ask()
    await workflow.sleep(timedelta(milliseconds=1))
    await _do("tell", whom)
    await _do("tell", whom)
    return whom


@workflow.defn(name="Pay")
class PayByNetwork:
    """Asks whoever listens on the port of this name."""

    @workflow.run
    async def run(self, whom: str) -> str:
        return await _pay_and_ask(whom, lambda: self._ask(int(whom)))

    @staticmethod
    def _ask(port: int) -> None:
        with socket.socket() as asking:
            asking.connect(("127.0.0.1", port))


@workflow.defn(name="Pay")
class PayByCommand:
    """Has another process ask."""

    @workflow.run
    async def run(self, whom: str) -> str:
        ask = f"import socket; socket.create_connection(('127.0.0.1', {int(whom)}))"
        return await _pay_and_ask(whom, lambda: subprocess.run((sys.executable, "-c", ask), check=True))


@workflow.defn(name="Tell")
class Tell:
    """Another type."""

    @workflow.run
    async def run(self, whom: str) -> str:
        await _do("tell", whom)
        return whom


@workflow.defn(name="Again")
class Again:
    """Goes on as a new run, once."""

    @workflow.run
    async def run(self, whom: str) -> None:
        if not whom.endswith("again"):
            workflow.continue_as_new(f"{whom}, again")


@workflow.defn(name="Again")
class AgainElsewhere:
    """Goes on from somewhere else."""

    @workflow.run
    async def run(self, _whom: str) -> None:
        workflow.continue_as_new("elsewhere, again")


@workflow.defn(name="Pay")
class PayMore:
    """Pays somebody else, and then decides at once that it is over."""

    @workflow.run
    async def run(self, whom: str) -> str:
        await _do("pay", f"{whom} and more")
        return whom
