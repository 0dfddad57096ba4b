"""`python -m benchmarks.load [SPEC]`: run the load that a JSON file or standard input asks for; print its result."""

import gc
import sys
from pathlib import Path

import msgspec
import uvloop

from benchmarks.load.client import Load
from benchmarks.load.scheduling import give_way
from benchmarks.load.spec import LoadResult, LoadSpec, read_requests


async def _run(spec: LoadSpec) -> LoadResult:
    requests = read_requests(Path(spec.requests))
    gc.collect()
    gc.freeze()  # a hundred thousand requests are not worth looking at again while the clock runs
    return await Load(spec, requests).run()


def main() -> None:
    """Read one spec, print one result."""
    give_way()
    text = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else sys.stdin.buffer.read()
    result = uvloop.run(_run(msgspec.json.decode(text, type=LoadSpec)))
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main()
