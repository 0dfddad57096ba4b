"""A process that replays histories for another: `python -m integrations.temporal.replay_process`.

What it works on comes by its input, frame by frame: first the names of workflows, then page after page of histories.
An empty frame goes to its output once the workflows have loaded, and then verdicts. It ends with its input. Of the
environment of whoever starts it, it is given what Python needs; addresses, passwords and keys are not among that.
"""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import IO, Any, Final

import msgspec
import uvloop
from temporalio.api.history.v1 import History
from temporalio.client import WorkflowHistory
from temporalio.runtime import Runtime, TelemetryConfig

from domain.replay import ReplayVerdict
from integrations.temporal.replay_guard import Guard
from integrations.temporal.replay_wall import stand
from integrations.temporal.replaying import Replays

Readable = tuple[str, bytes]  # a workflow id, and a history whose payloads are open

_LENGTH_BYTES: Final = 4
_PASSED_ON: Final = frozenset(
    {
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "PYTHONHOME",
        "TMPDIR",
        "TZ",
        # how the branches that this takes are counted, where they are
        "COVERAGE_PROCESS_CONFIG",
        "COVERAGE_PROCESS_START",
    }
)


def environment(release: str = "") -> dict[str, str]:
    """Return the environment of such a process: what Python needs to find modules, and nothing of ours.

    Those in the folder of a release come first.
    """
    given = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    return given | {"PYTHONPATH": os.pathsep.join(path for path in (release, *sys.path) if path)}


def write_frame(stream: IO[bytes], content: bytes) -> None:
    """Send some bytes. Raises BrokenPipeError where nobody reads any more."""
    stream.write(len(content).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(content)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes:
    """Return the next bytes that were sent. Raises EOFError where nothing comes any more."""
    head = stream.read(_LENGTH_BYTES)
    content = stream.read(int.from_bytes(head, "big"))
    if len(head) < _LENGTH_BYTES or len(content) < int.from_bytes(head, "big"):
        raise EOFError
    return content


def name_of(workflow: type) -> str:
    """Return the name that a workflow is found by; it stands in a module."""
    return f"{workflow.__module__}:{workflow.__qualname__}"


def _found(name: str) -> type:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert isinstance(found, type)
    return found


def judge_page(workflows: Sequence[type], page: Sequence[Readable], guard: Guard) -> list[ReplayVerdict]:
    """Judge histories in this process, which runs no event loop."""
    histories = [WorkflowHistory(workflow_id, History.FromString(events).events) for workflow_id, events in page]
    return uvloop.run(Replays(workflows, guard).judge(histories))


def _log_nothing() -> None:
    """Have this process log nothing: the SDK tells errors of workflows with their text, which may quote a history."""
    logging.disable()
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)))


def main() -> None:
    """Judge until the input ends."""
    given, said = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a workflow prints is no verdict
    stand()  # before there is another thread
    _log_nothing()
    guard = Guard()
    guard.watch()
    workflows = [_found(name) for name in msgspec.msgpack.decode(read_frame(given), type=list[str])]
    write_frame(said, b"")  # they have loaded
    while True:
        try:
            page = read_frame(given)
        except EOFError:
            return
        verdicts = judge_page(workflows, msgspec.msgpack.decode(page, type=list[Readable]), guard)
        write_frame(said, msgspec.msgpack.encode(verdicts))


if __name__ == "__main__":
    try:
        main()
    except Exception as failure:  # noqa: BLE001 - its text may quote a history: whoever started this sees that it died
        sys.exit(type(failure).__name__)
