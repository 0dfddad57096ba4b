"""Temporal as in production: the server that `make tools` builds, all four services in one process, on PostgreSQL."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from comitia.stack import temporal
from comitia.stack.built_tools import TEMPORAL_SERVER, needed_tool
from comitia.stack.ports import HOST
from comitia.stack.probes import http_get, http_ok
from comitia.stack.process import ManagedProcess, StartError
from comitia.stack.temporal_store import DATABASES, PLUGIN, ROLE, Store

READY_WITHIN_S = 60.0
SERVICES = ("frontend", "history", "matching", "worker")
# Fixed for the life of the data. A few are enough for one machine; production, many machines, takes hundreds.
HISTORY_SHARDS = 4
_GRACE_S = 20.0
_RETENTION = {"platform": timedelta(days=30)}
_RETENTION_OF_CELLS = timedelta(days=3)  # the keys of these histories are destroyed then
_STORE_CONNECTIONS = 24
_STORE_CONNECT_TIMEOUT_S = 3  # a primary that does not answer is passed over for the next
_DYNAMIC_CONFIG = {"system.namespaceCacheRefreshInterval": "1s"}  # a namespace is known this long after it was made


def port_names() -> tuple[str, ...]:
    """Return the ports that only this server needs, besides those of the development server."""
    internal = tuple(f"temporal-{service}" for service in SERVICES[1:])
    return (*internal, *(f"temporal-{service}-membership" for service in SERVICES))


def process(folder: Path, log: Path, ports: Mapping[str, int], store: Store) -> ManagedProcess:
    """Return the server on this store.

    Raises:
        FileNotFoundError: it was not built.
    """
    server = needed_tool(TEMPORAL_SERVER)
    dynamic, config = folder / "dynamic.json", folder / "config.json"  # JSON is YAML
    values = {**temporal.DYNAMIC_CONFIG, **_DYNAMIC_CONFIG}
    dynamic.write_text(json.dumps({name: [{"value": value}] for name, value in values.items()}))
    config.touch(mode=0o600)
    config.write_text(json.dumps(_config(dynamic, ports, store), indent=1))
    command = [str(server), "--config-file", str(config), "--allow-no-auth", "start"]
    return ManagedProcess("temporal", command, log, folder=folder, grace_s=_GRACE_S)


def _config(dynamic: Path, ports: Mapping[str, int], store: Store) -> dict[str, Any]:
    def sql(database: str) -> dict[str, Any]:
        return {
            "sql": {
                "pluginName": PLUGIN,
                "databaseName": database,
                "connectAddr": ",".join(f"{address.host}:{address.port}" for address in store.addresses),
                "connectProtocol": "tcp",
                "connectAttributes": {
                    "target_session_attrs": "read-write",
                    "connect_timeout": str(_STORE_CONNECT_TIMEOUT_S),
                },
                "user": ROLE,
                "password": store.password,
                "maxConns": _STORE_CONNECTIONS,
                "maxIdleConns": _STORE_CONNECTIONS,
                "maxConnLifetime": "1h",
            }
        }

    def rpc(service: str) -> dict[str, Any]:
        own = {"grpcPort": ports["temporal"], "httpPort": ports["temporal-http"]}
        grpc = own if service == "frontend" else {"grpcPort": ports[f"temporal-{service}"]}
        return {"rpc": {**grpc, "membershipPort": ports[f"temporal-{service}-membership"], "bindOnIP": HOST}}

    history, visibility = DATABASES
    return {
        "log": {"stdout": True, "level": "warn"},
        "persistence": {
            "numHistoryShards": HISTORY_SHARDS,
            "defaultStore": history,
            "visibilityStore": visibility,
            "datastores": {name: sql(name) for name in DATABASES},
        },
        "global": {
            "membership": {"maxJoinDuration": "30s", "broadcastAddress": HOST},
            "metrics": {
                "prometheus": {"timerType": "histogram", "listenAddress": f"{HOST}:{ports['temporal-metrics']}"}
            },
        },
        "services": {service: rpc(service) for service in SERVICES},
        "clusterMetadata": {
            "enableGlobalNamespace": False,
            "failoverVersionIncrement": 10,
            "masterClusterName": "active",
            "currentClusterName": "active",
            "clusterInformation": {
                "active": {
                    "enabled": True,
                    "initialFailoverVersion": 1,
                    "rpcName": "frontend",
                    "rpcAddress": f"{HOST}:{ports['temporal']}",
                    "httpAddress": f"{HOST}:{ports['temporal-http']}",
                }
            },
        },
        "dcRedirectionPolicy": {"policy": "noop"},
        "dynamicConfigClient": {"filepath": str(dynamic), "pollInterval": "60s"},
    }


async def ready(process: ManagedProcess, ports: dict[str, int], namespaces: Iterable[str]) -> None:
    """Wait until it serves every namespace with every search attribute, making what is missing. Raises StartError."""
    names, port = tuple(namespaces), ports["temporal-http"]

    async def answers() -> bool:
        return await http_ok(HOST, port, "/api/v1/system-info")

    async def serves_histories() -> bool:
        """The frontend answers before it knows new namespaces, and before the shards are owned."""
        return all(await asyncio.gather(*(_serves_histories(port, name) for name in names)))

    await process.until(answers, within_s=READY_WITHIN_S)
    for name in names:
        if not await http_ok(HOST, port, f"/api/v1/namespaces/{name}"):
            await _make_namespace(process, ports["temporal"], name)
    await process.until(serves_histories, within_s=READY_WITHIN_S)
    await temporal.ready(process, ports, names)


async def _serves_histories(port: int, namespace: str) -> bool:
    """Ask for executions that nobody made, enough for every shard to be asked: only their shard says that of them."""
    for number in range(4 * HISTORY_SHARDS):
        workflow_id = f"nobody-{number}"
        _, body = await http_get(HOST, port, f"/api/v1/namespaces/{namespace}/workflows/{workflow_id}")
        if workflow_id not in body.decode():
            return False
    return True


async def _make_namespace(process: ManagedProcess, port: int, name: str) -> None:
    hours = round(_RETENTION.get(name, _RETENTION_OF_CELLS).total_seconds() / 3600)
    command = [str(temporal.binary()), "operator", "namespace", "create", "--address", f"{HOST}:{port}"]
    command += ["--namespace", name, "--retention", f"{hours}h"]
    if await ManagedProcess("namespace", command, process.log).finish():
        raise StartError(f"the namespace {name} was not made\n{process.tail()}")
