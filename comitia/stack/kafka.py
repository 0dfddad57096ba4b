"""Kafka from jars that Maven fetches: KRaft nodes, each broker and controller in one JVM; one of them or three."""

import asyncio
import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from comitia.stack.built_tools import tools_folder
from comitia.stack.ports import HOST
from comitia.stack.probes import kafka_answers
from comitia.stack.process import ManagedProcess, StartError

READY_WITHIN_S = 60.0
POM = Path(__file__).with_name("pom.xml")
_COMPLETE = ".complete"  # beside the jars, a copy of the pom.xml that they came from
# A small heap and the simplest collector: one node for one machine shares its cores with everything else.
# One compiler and one collector: on two cores a broker's optimiser takes more than it gives back in a short life.
_JVM = (
    "-Xms128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Xshare:auto",
)
_LOGGING = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


def jars_folder() -> Path:
    """Return where the jars are, or would be."""
    return tools_folder() / "kafka" / "libs"


def jars_complete() -> bool:
    """Tell whether the jars of the present pom.xml are there."""
    mark = jars_folder() / _COMPLETE
    return mark.exists() and mark.read_bytes() == POM.read_bytes()


def fetch_jars() -> Path:
    """Fetch the jars with Maven unless they are there; return their folder. Safe to repeat.

    Raises:
        StartError: Maven is missing or failed; the message carries its output.
    """
    target = jars_folder()
    if jars_complete():
        return target
    if shutil.which("mvn") is None:
        raise StartError("Kafka's jars are missing and so is Maven, which fetches them: comitia doctor says more")
    fresh = target.with_name(f"libs-{os.getpid()}")
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError(f"Maven could not fetch Kafka's jars:\n{done.stdout}{done.stderr}")
    (fresh / _COMPLETE).write_bytes(POM.read_bytes())
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return target


def broker_names(brokers: int) -> tuple[str, ...]:
    """Return what the nodes are called in ports, logs and processes: `kafka`, `kafka-2`, `kafka-3`."""
    return ("kafka", *(f"kafka-{number}" for number in range(2, brokers + 1)))


def port_names(brokers: int) -> tuple[str, ...]:
    """Return the ports that so many nodes listen on."""
    return tuple(port for name in broker_names(brokers) for port in (name, _controller(name)))


def _controller(name: str) -> str:
    return f"{name}-controller"


def _properties(folder: Path, name: str, names: tuple[str, ...], ports: Mapping[str, int]) -> str:
    broker, controller = ports[name], ports[_controller(name)]
    replicas = str(len(names))
    in_sync = "2" if len(names) >= 3 else "1"  # noqa: PLR2004 - from three on, one may die
    values = {
        "process.roles": "broker,controller",
        "node.id": str(names.index(name) + 1),
        # A fixed quorum takes its ports from here at each start, so that they may change between starts.
        "controller.quorum.voters": ",".join(
            f"{number}@{HOST}:{ports[_controller(other)]}" for number, other in enumerate(names, start=1)
        ),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{broker}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(folder / "data"),
        "num.partitions": "4",
        "auto.create.topics.enable": "false",  # topics are made with a chosen number of partitions
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.recovery.threads.per.data.dir": "2",
        # A dead broker's partitions have another leader after this; Kafka's own 9 s would be most of an outage.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # Twice a second, as it comes, records of nothing are a quarter of what an idle node does.
        "metadata.max.idle.interval.ms": "5000",
        # Everything here is stopped together: handing partitions over to nodes that are going too only takes time.
        "controlled.shutdown.enable": str(len(names) == 1).lower(),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


async def processes(
    folder_of: Callable[[str], Path], log_of: Callable[[str], Path], ports: Mapping[str, int], *, brokers: int = 1
) -> list[ManagedProcess]:
    """Return the nodes, each with its data in a folder of its name, formatted at the first start.

    Raises:
        StartError: the jars cannot be fetched, or a folder not formatted.
    """
    jars = await asyncio.to_thread(fetch_jars)
    names = broker_names(brokers)
    heap = "-Xmx512m" if brokers == 1 else "-Xmx256m"
    java = [java_command(), *_JVM, heap, _LOGGING, "-cp", f"{jars}/*"]
    cluster = _cluster_id(folder_of(names[0]))
    found, formats = [], []
    for name in names:
        folder = folder_of(name)
        properties = folder / "kraft.properties"
        properties.write_text(_properties(folder, name, names, ports))
        if not (folder / "data" / "meta.properties").exists():
            formats.append(_format(java, cluster, properties, log_of(name)))
        found.append(ManagedProcess(name, [*java, "kafka.Kafka", str(properties)], log_of(name), folder=folder))
    await asyncio.gather(*formats)
    return found


def _cluster_id(folder: Path) -> str:
    """Return what all nodes are formatted with, kept so that a start that was cut short goes on with the same."""
    file = folder / "cluster-id"
    if not file.exists():
        file.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))
    return file.read_text()


async def _format(java: list[str], cluster: str, properties: Path, log: Path) -> None:
    arguments = ["format", f"--cluster-id={cluster}", "-c", str(properties)]
    tool = ManagedProcess("kafka-format", [*java, "kafka.tools.StorageTool", *arguments], log)
    if await tool.finish():
        raise StartError(f"Kafka's storage was not formatted\n{tool.tail()}")


async def ready(process: ManagedProcess, port: int, *, brokers: int = 1) -> None:
    """Wait until topics can be made that so many brokers hold. Raises StartError."""
    await process.until(lambda: kafka_answers(HOST, port, brokers=brokers), within_s=READY_WITHIN_S)


def java_command() -> str:
    """Return the `java` of `JAVA_HOME`, or of the path."""
    home = os.environ.get("JAVA_HOME")
    found = Path(home) / "bin" / "java" if home else None
    return str(found) if found and found.exists() else shutil.which("java") or "java"
