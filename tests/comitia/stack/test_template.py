import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from comitia.stack.process import ManagedProcess, StartError
from comitia.stack.template import Template
from tests.comitia.stack.processes import alive, family_of, gone

PACKAGE = "tests.comitia.stack.forked"
MODULES = [f"{PACKAGE}.__main__", f"{PACKAGE}.part"]
PARENT = f"""
import asyncio, sys
from pathlib import Path
from comitia.stack.process import ManagedProcess
from comitia.stack.template import Template

async def main():
    log = Path(sys.argv[1])
    template = Template({MODULES}, {{}}, log)
    child = ManagedProcess("child", ["", "-m", "{PACKAGE}", "wait"], log, environment={{}}, template=template)
    await child.start()
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


@pytest_asyncio.fixture
async def template(tmp_path: Path) -> AsyncIterator[Template]:
    made = Template(MODULES, {**os.environ, "OF_THE_TEMPLATE": "yes"}, tmp_path / "template.log")
    yield made
    await made.close()


def forked(template: Template, log: Path, *arguments: str) -> ManagedProcess:
    environment = {"OF_THE_PROCESS": "yes"}
    return ManagedProcess(
        "forked", [sys.executable, "-m", PACKAGE, *arguments], log, environment=environment, template=template
    )


async def said(process: ManagedProcess, words: str) -> None:
    async def says() -> bool:
        return words in process.tail()

    await process.until(says, within_s=20)


async def test_it_is_what_a_command_would_be_and_has_nothing_of_the_template_but_its_modules(
    template: Template, tmp_path: Path
) -> None:
    process = forked(template, tmp_path / "log", "show", "this")
    await process.start()
    assert await process.wait() == 3
    assert process.tail().splitlines()[:-1] == [
        f"arguments {PACKAGE} show this",
        "name tests.comitia.s",
        "variables OF_THE_PROCESS",
        "leads its session True",
        "imported before True",
        "input ''",
        "told of children False",
        "woken by signals False",
        "descriptors 0 1 2",
        "said on the way out",
    ]


async def test_many_at_once_are_processes_of_their_own(template: Template, tmp_path: Path) -> None:
    processes = [forked(template, tmp_path / f"log-{number}", "wait") for number in range(12)]
    await asyncio.gather(*(process.start() for process in processes))
    pids = {process.pid for process in processes}
    assert len(pids) == 12
    assert all(alive(pid) for pid in pids if pid)
    await asyncio.gather(*(process.stop() for process in processes))
    assert {await process.wait() for process in processes} == {-signal.SIGTERM}
    assert not gone(pid for pid in pids if pid)


async def test_a_kill_is_seen_and_it_starts_again(template: Template, tmp_path: Path) -> None:
    process = forked(template, tmp_path / "log", "wait")
    await process.start()
    first = process.pid
    await process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert process.pid is None
    await process.start()
    assert process.pid not in {None, first}
    await process.kill()


async def test_whatever_was_forked_ends_with_its_template_and_the_next_start_has_another(
    template: Template, tmp_path: Path
) -> None:
    process = forked(template, tmp_path / "log", "wait")
    await process.start()
    pid = process.pid
    assert pid is not None
    assert template.pid is not None
    os.kill(template.pid, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    assert not gone([pid])
    await process.start()
    await said(process, "waiting")
    await process.kill()


async def test_a_template_that_cannot_import_forks_nothing(tmp_path: Path) -> None:
    template = Template([f"{PACKAGE}.absent"], dict(os.environ), tmp_path / "template.log")
    with pytest.raises(StartError, match="not forked"):
        await forked(template, tmp_path / "log", "wait").start()
    assert "absent" in (tmp_path / "template.log").read_text()
    await template.close()


def test_nothing_is_left_where_the_one_who_started_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        family = family_of(parent.pid)
        assert child in family
        assert len(family) == 3
        parent.kill()
    assert not gone(family)
