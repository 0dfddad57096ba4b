"""A wrong wall clock for a process that a test starts, by libfaketime of the wheel or Debian's."""

import importlib.util
from pathlib import Path

_DEBIAN = "/usr/lib/*/faketime/libfaketime.so.1"


def faketime() -> Path | None:
    """Return the library, or None where it is not installed."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is not None and spec.origin is not None:
        found = sorted((Path(spec.origin).parent / "vendor").rglob("libfaketime.so.1"))
        if found:
            return found[0]
    return next(iter(sorted(Path("/").glob(_DEBIAN.lstrip("/")))), None)


def clock_variables(library: Path, ahead_s: int) -> dict[str, str]:
    """Return what to start a process with whose wall clock is to be so far ahead; what waits and measures is right."""
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{ahead_s:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
