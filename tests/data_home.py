"""Where the servers of tests keep their data."""

import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 6 << 30  # for the stacks of all test processes


def data_home() -> Path | None:
    """Return a folder in memory where there is room for it, or None: the usual one for what lasts for a while.

    None of it outlives its test, so nothing is gained by waiting for a disk at each of many thousand commits. That data
    outlive a crash is seen where processes are killed, and there the kernel keeps what they wrote.
    """
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        return None
    return _MEMORY
