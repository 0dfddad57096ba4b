"""Replaces application processes one after the other, each by a successor beside it, so that nobody is turned away."""

from collections.abc import Callable, Collection

from comitia.stack.applications import VOTING_WORKER
from comitia.stack.process import ManagedProcess
from comitia.stack.source import Source, present_source
from comitia.stack.supervisor import Supervisor

VOTES = "api-votes"
_TOGETHER = (VOTING_WORKER.name, VOTES)


async def roll(
    supervisor: Supervisor,
    names: Collection[str] = (),
    *,
    source: Source | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Replace processes by `source`, else the present code, workers first; all of them where no names are given.

    The voting worker of a new build is the current one before a votes process of that build starts, and that of the
    old build stays until no votes process starts anything on it and what they had started has ended. So the two go
    together where the build has changed.

    Raises:
        ValueError: there is no process of a name.
        StartError: a successor did not come up. What was replaced before stays so; the others go on as they were.
    """
    chosen = set(names or supervisor.processes)
    if unknown := chosen - supervisor.processes.keys():
        raise ValueError(f"no process is called {', '.join(sorted(unknown))}")
    source = source or present_source()
    if chosen & {*_TOGETHER} and any(supervisor.build(name) != source.build for name in _present(supervisor)):
        chosen |= {*_present(supervisor)}
    last: list[ManagedProcess] = []
    for application in supervisor.applications:
        name = application.name
        if name not in chosen:
            continue
        predecessor = await supervisor.succeed(name, source)
        say(f"{name}: process {supervisor.pids.get(name)} of {source.build} serves beside {predecessor.pid}")
        if name == VOTING_WORKER.name:
            last.append(predecessor)
        else:
            await _retire(supervisor, predecessor, say)
    for predecessor in last:
        await _retire(supervisor, predecessor, say)


def _present(supervisor: Supervisor) -> list[str]:
    return [name for name in _TOGETHER if name in supervisor.processes]


async def _retire(supervisor: Supervisor, predecessor: ManagedProcess, say: Callable[[str], None]) -> None:
    pid, status = predecessor.pid, await supervisor.retire(predecessor)
    say(f"{predecessor.name}: process {pid} ended with status {status}")
