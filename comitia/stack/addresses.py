"""Where the servers of one machine are found: the ports that they need, and the settings that name them."""

from collections.abc import Mapping
from typing import Any

from comitia.stack import kafka, ports, temporal_server, temporal_store
from comitia.stack.postgres_pair import MEMBERS
from comitia.stack.replaced import Replaced
from comitia.stack.state import CATALOGUE, CELLS, PLATFORM, merged
from comitia.stack.topology import Topology

DATABASES = (*CELLS, CATALOGUE)


def port_names(topology: Topology) -> tuple[str, ...]:
    """Return the names of the ports that these servers listen on."""
    more = temporal_server.port_names() if topology.temporal_server else ()
    more += (temporal_store.NAME,) if topology.temporal_server and not topology.temporal_standby else ()
    pairs = (*(DATABASES if topology.standby else ()), *(("temporal",) if topology.temporal_standby else ()))
    more += tuple(f"postgres-{name}-{each}" for name in pairs for each in MEMBERS)
    return tuple(dict.fromkeys((*ports.SERVER_PORTS, *kafka.port_names(topology.kafka_brokers), *more)))


def addresses_of(chosen: Mapping[str, int], topology: Topology, replaced: Replaced) -> dict[str, Any]:
    """Return addresses nested as `Settings` reads them: ours on the chosen ports, or those that replace them.

    A replaced address replaces all of ours but names: host, port, TLS and Redis database are its own.
    """
    own = _own_addresses(chosen, topology)
    values = {name: value for name, value in replaced.values.items() if name != "database_passwords"}
    for cell, servers in values.get("cells", {}).items():
        for server, address in servers.items():
            kept = {k: own["cells"][cell][server][k] for k in ("name", "namespace") if k in own["cells"][cell][server]}
            servers[server] = {"host": ports.HOST, "database": "0", **kept, **address}
            if server != "redis":
                servers[server].pop("database")
    return merged(own, values)


def _own_addresses(chosen: Mapping[str, int], topology: Topology) -> dict[str, Any]:
    others = kafka.broker_names(topology.kafka_brokers)[1:]
    more_brokers = {
        "replication": topology.kafka_brokers,
        "others": ",".join(f"{ports.HOST}:{chosen[name]}" for name in others),
    }

    def at(server: str, **more: Any) -> dict[str, Any]:
        return {"host": ports.HOST, "port": chosen[server], **more}

    def database(name: str) -> dict[str, Any]:
        if not topology.standby:
            return at("postgres", name=name)
        first, second = (f"postgres-{name}-{each}" for each in MEMBERS)
        return at(first, name=name, others=f"{ports.HOST}:{chosen[second]}")

    return {
        "cells": {
            cell: {
                "database": database(cell),
                "redis": at("redis", database=number),
                "kafka": at("kafka", **(more_brokers if others else {})),
                "temporal": at("temporal", namespace=cell),
            }
            for number, cell in enumerate(CELLS)
        },
        CATALOGUE: database(CATALOGUE),
        "platform_temporal": at("temporal", namespace=PLATFORM),
    }
