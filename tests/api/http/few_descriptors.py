"""`python -m tests.api.http.few_descriptors`: a server that runs out of descriptors long before its own limit.

Prints its port, serves until standard input ends.
"""

import asyncio
import os
import resource
import sys
import threading

import uvloop

from tests.api.http.wire import serving

LEFT = 30


async def _main() -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def read_to_the_end() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read_to_the_end, daemon=True).start()
    async with serving() as served:
        opened = {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208 - numbers, not paths
        free = [number for number in range(1000) if number not in opened]
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[LEFT], hard))
        sys.stdout.write(f"{served.port}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    uvloop.run(_main())
