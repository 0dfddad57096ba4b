"""Ports of the pieces on one machine: fixed ones for people, free ones for tests."""

import random
import socket
from collections.abc import Callable, Iterable

HOST = "127.0.0.1"

# Away from the usual ports of the same servers, so that a developer's own ones are left in peace.
SERVER_PORTS = {
    "postgres": 5442,
    "redis": 6389,
    "kafka": 9192,
    "kafka-controller": 9193,
    "temporal": 7233,
    "temporal-http": 7243,
    "temporal-metrics": 7253,
    "temporal-ui": 8233,
}
# Of servers that a stack has only where they are asked for.
PRODUCTION_PORTS = {
    "kafka-2": 9194,
    "kafka-2-controller": 9195,
    "kafka-3": 9196,
    "kafka-3-controller": 9197,
    "temporal-store": 5452,
    "postgres-eu-a": 5461,
    "postgres-eu-b": 5462,
    "postgres-us-a": 5463,
    "postgres-us-b": 5464,
    "postgres-catalogue-a": 5465,
    "postgres-catalogue-b": 5466,
    "postgres-temporal-a": 5467,
    "postgres-temporal-b": 5468,
    "temporal-history": 7234,
    "temporal-matching": 7235,
    "temporal-worker": 7239,
    "temporal-frontend-membership": 6933,
    "temporal-history-membership": 6934,
    "temporal-matching-membership": 6935,
    "temporal-worker-membership": 6939,
}
# Below the range that the kernel takes for outgoing connections: nobody can be given the port between choice and use.
_FREE_RANGE = range(20000, 32000)
_ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(taken: Iterable[int], *, after: int | None = None) -> int:
    """Return a free port that is not in `taken`, near `after` where that is one of the free range.

    Raises:
        RuntimeError: none is found.
    """
    given = set(taken)
    # anywhere: spreads stacks that start at once, and is nothing secret
    first = after + 1 if after is not None and after in _FREE_RANGE else random.choice(_FREE_RANGE)  # noqa: S311
    for step in range(_ATTEMPTS):
        port = _FREE_RANGE[(first - _FREE_RANGE.start + step) % len(_FREE_RANGE)]
        if port not in given and is_free(port):
            return port
    raise RuntimeError("no free port found")


def choose(
    names: Iterable[str],
    wanted: dict[str, int],
    say: Callable[[str], None] = lambda _: None,
    *,
    taken: Iterable[int] = (),
) -> dict[str, int]:
    """Return a port for each name: the wanted one where it is free, else any, saying so.

    `taken` are kept for others, who may not listen yet.
    """
    chosen: dict[str, int] = {}
    kept = set(taken)
    for name in names:
        port = wanted.get(name)
        if port is not None and port not in {*chosen.values(), *kept} and is_free(port):
            chosen[name] = port
            continue
        # next to the last one: of two stacks that start at once, one could choose what the other is about to use
        chosen[name] = free_port({*chosen.values(), *kept}, after=next(reversed(chosen.values()), None))
        if port is not None:
            say(f"port {port} of {name} is taken: using {chosen[name]}")
    return chosen
