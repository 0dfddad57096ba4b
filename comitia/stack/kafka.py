"""One Kafka node (KRaft: broker and controller in one JVM), run from jars that Maven fetches."""

import asyncio
import base64
import os
import shutil
import subprocess
import uuid
from pathlib import Path

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
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Xshare:auto",
)
_LOGGING = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


def tools_folder() -> Path:
    """Return where fetched tools are kept: `COMITIA_TOOLS_FOLDER`, the checkout's `.tools`, or the user's cache."""
    if given := os.environ.get("COMITIA_TOOLS_FOLDER"):
        return Path(given)
    checkout = Path(__file__).parents[2]
    return checkout / ".tools" if (checkout / "pyproject.toml").exists() else Path.home() / ".cache/comitia/tools"


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


def _properties(folder: Path, ports: dict[str, int]) -> str:
    broker, controller = ports["kafka"], ports["kafka-controller"]
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        # A fixed quorum takes its port from here at each start, so that ports may change between starts.
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{broker}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(folder / "data"),
        "num.partitions": "4",
        "auto.create.topics.enable": "false",  # topics are made with a chosen number of partitions
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.recovery.threads.per.data.dir": "2",
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


async def process(folder: Path, log: Path, ports: dict[str, int]) -> ManagedProcess:
    """Return the server with its data in `folder`, formatted at the first start.

    Raises:
        StartError: the jars cannot be fetched, or the folder not formatted.
    """
    jars = await asyncio.to_thread(fetch_jars)
    java = [java_command(), *_JVM, _LOGGING, "-cp", f"{jars}/*"]
    properties, formatted = _prepare(folder, ports)
    if not formatted:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = ["format", f"--cluster-id={cluster}", "-c", str(properties)]
        tool = ManagedProcess("kafka-format", [*java, "kafka.tools.StorageTool", *arguments], log)
        if await tool.finish():
            raise StartError(f"Kafka's storage was not formatted\n{tool.tail()}")
    return ManagedProcess("kafka", [*java, "kafka.Kafka", str(properties)], log, folder=folder)


def _prepare(folder: Path, ports: dict[str, int]) -> tuple[Path, bool]:
    """Write the properties; return their file, and whether the storage is formatted."""
    properties = folder / "kraft.properties"
    properties.write_text(_properties(folder, ports))
    return properties, (folder / "data" / "meta.properties").exists()


async def ready(process: ManagedProcess, port: int) -> None:
    """Wait until topics can be made. Raises StartError."""
    await process.until(lambda: kafka_answers(HOST, port), within_s=READY_WITHIN_S)


def java_command() -> str:
    """Return the `java` of `JAVA_HOME`, or of the path."""
    home = os.environ.get("JAVA_HOME")
    found = Path(home) / "bin" / "java" if home else None
    return str(found) if found and found.exists() else shutil.which("java") or "java"
