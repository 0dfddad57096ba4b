import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from comitia.cli import app
from comitia.stack.control import ControlError, Say, ask_to_restart, controlled
from comitia.stack.process import StartError


class Stack:
    """Says what it was asked for; `failing` is how it ends."""

    def __init__(self, failing: Exception | None = None) -> None:
        self.asked: list[list[str]] = []
        self.at_once = 0
        self._failing = failing

    async def __call__(self, names: Sequence[str], say: Say) -> None:
        self.at_once += 1
        assert self.at_once == 1
        self.asked.append(list(names))
        for name in names:
            say(f"replacing {name}")
            await asyncio.sleep(0)
        self.at_once -= 1
        if self._failing is not None:
            raise self._failing


async def test_a_running_stack_is_asked_and_says_how_far_it_is(tmp_path: Path) -> None:
    stack, said = Stack(), list[str]()
    async with controlled(tmp_path, stack):
        assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o600
        await ask_to_restart(tmp_path, ["api-votes", "workers-tally"], said.append)
        await ask_to_restart(tmp_path, [], said.append)
    assert stack.asked == [["api-votes", "workers-tally"], []]
    assert said == ["replacing api-votes", "replacing workers-tally"]
    assert not (tmp_path / "control").exists()


async def test_one_asks_after_the_other(tmp_path: Path) -> None:
    stack = Stack()
    async with controlled(tmp_path, stack):
        await asyncio.gather(*(ask_to_restart(tmp_path, [str(n)] * 5, lambda _: None) for n in range(5)))
    assert sorted(stack.asked) == [[str(n)] * 5 for n in range(5)]


@pytest.mark.parametrize(
    "failing", [ValueError("no such process"), StartError("api-votes ended with status 1\nits log")]
)
async def test_what_could_not_be_done_is_told(tmp_path: Path, failing: Exception) -> None:
    async with controlled(tmp_path, Stack(failing)):
        with pytest.raises(ControlError) as raised:
            await ask_to_restart(tmp_path, ["x"], lambda _: None)
    assert str(raised.value) == str(failing)


async def test_a_socket_left_by_a_power_cut_is_no_stack(tmp_path: Path) -> None:
    async with controlled(tmp_path, Stack()):
        os.link(tmp_path / "control", tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / "control")
    with pytest.raises(ControlError, match="no stack"):
        await ask_to_restart(tmp_path, [], lambda _: None)
    async with controlled(tmp_path, stack := Stack()):
        await ask_to_restart(tmp_path, [], lambda _: None)
    assert stack.asked == [[]]


async def test_a_long_path_is_said_from_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with pytest.raises(ControlError, match="too long"):
        await ask_to_restart(folder, [], lambda _: None)
    monkeypatch.chdir(folder)
    async with controlled(folder, stack := Stack()):
        await ask_to_restart(folder, ["a"], lambda _: None)
    assert stack.asked == [["a"]]


def test_the_command_says_that_nothing_runs(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["restart", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "not restarted: no stack with services runs in" in result.output
