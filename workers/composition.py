"""How a worker is found by name, and what it is given."""

import asyncio
import importlib
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from integrations.settings import Settings
from integrations.telemetry.telemetry import Telemetry

_NAME = re.compile(r"[a-z][a-z_]{0,31}")

Run = Callable[[Settings, AsyncExitStack, Telemetry, asyncio.Event], Awaitable[None]]
"""`run(settings, lifetime, telemetry, stopping)` of `workers/<name>.py`.

It adds its checks to `telemetry.readiness`, calls `telemetry.readiness.start()` once it works, and returns soon after
`stopping` is set.
"""


def find_run(worker: str) -> Run:
    """Return `run` of `workers.<worker>`.

    Raises:
        LookupError: there is no such worker.
    """
    name = f"workers.{worker}"
    if not _NAME.fullmatch(worker) or worker == "composition":
        raise LookupError(f"not a worker's name: {worker!r}")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise LookupError(f"no worker named {worker}") from error
        raise
    run: Run = module.run
    return run
