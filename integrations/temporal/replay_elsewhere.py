"""Replays with the code of another release: run by its path, with that release first on Python's path.

What replays is ours, whatever the release has of it: some modules that stand on nothing else of ours. Everything that
they import besides, workflows and contracts first of all, is the release's.
"""

import importlib.util
import runpy
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_PROCESS: Final = "integrations.temporal.replay_process"
_OURS: Final = frozenset(
    {
        _PROCESS,
        "integrations.temporal.replaying",
        "integrations.temporal.replay_contents",
        "integrations.temporal.replay_guard",
        "integrations.temporal.replay_listening",
        "integrations.temporal.replay_wall",
        "integrations.temporal.events",
        "domain.replay",
    }
)


class _Ours(MetaPathFinder):
    """Finds the modules that replay in our own folder."""

    def find_spec(self, name: str, *_: Any, **__: Any) -> ModuleSpec | None:
        """Return where a module is that replays, and leave every other to the release."""
        if name not in _OURS:
            return None
        return importlib.util.spec_from_file_location(name, _ROOT.joinpath(*name.split(".")).with_suffix(".py"))


if __name__ == "__main__":
    sys.meta_path.insert(0, _Ours())
    runpy.run_module(_PROCESS, run_name="__main__")
