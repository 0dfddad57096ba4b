"""Where keys are kept, for tests: a folder, or AWS KMS with a bucket, each a real server of its own."""

import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError
from pydantic import SecretStr

from comitia.stack.built_tools import LOCAL_KMS, VERSITYGW, needed_tool
from comitia.stack.ports import HOST, free_port
from comitia.stack.process import ManagedProcess
from integrations.keys.aws_kms import WITHIN_S, AwsKms, EncryptedKeys, key_client
from integrations.keys.file_kms import FileKms
from integrations.keys.key_bucket import KeyBucket
from integrations.keys.key_service import KeyService, utc_today
from integrations.keys.kms_ciphers import KmsCiphers
from integrations.vendor_settings import AwsSettings, BucketSettings, KmsSettings
from tests.built_tools import need_tools
from tests.certificates import certificate

REGION = "eu-central-1"
_UP_WITHIN_S = 20


class Place(Protocol):
    """Keys of one test."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The settings of a process that uses them."""
        ...

    def open(self, *allowed: str, today: Callable[[], date] = utc_today) -> KeyService:
        """The service of one more process, which has read nothing yet."""
        ...

    def lose_public_key(self, key_id: str) -> None:
        """Take the public key of a key away."""
        ...


@dataclass(frozen=True)
class Folder:
    path: Path

    @property
    def variables(self) -> dict[str, str]:
        return {"COMITIA_KEYS_FOLDER": str(self.path)}

    def open(self, *allowed: str, today: Callable[[], date] = utc_today) -> FileKms:
        return FileKms(self.path, frozenset(allowed), today=today)

    def lose_public_key(self, key_id: str) -> None:
        (self.path / f"{key_id}.pub").unlink()


@dataclass(frozen=True)
class Bucket:
    """`objects` is a client of somebody who may do everything in the bucket."""

    kms: KmsSettings
    settings: BucketSettings
    ciphers: KmsCiphers
    objects: Any
    variables: dict[str, str] = field(default_factory=dict)

    def open(self, *allowed: str, today: Callable[[], date] = utc_today, within_s: float = WITHIN_S) -> AwsKms:
        return AwsKms(self.place(), frozenset(allowed), today=today, within_s=within_s)

    def lose_public_key(self, key_id: str) -> None:
        self.remove(f"{key_id}.pub")

    def place(self, **more: Any) -> EncryptedKeys:
        return EncryptedKeys(self.ciphers, KeyBucket(self.objects, self.settings.bucket), **more)

    def get(self, name: str) -> bytes:
        content: bytes = self.objects.get_object(Bucket=self.settings.bucket, Key=name)["Body"].read()
        return content

    def put(self, name: str, content: bytes) -> None:
        self.objects.put_object(Bucket=self.settings.bucket, Key=name, Body=content)

    def remove(self, name: str) -> None:
        self.objects.delete_object(Bucket=self.settings.bucket, Key=name)

    def names(self) -> list[str]:
        found = self.objects.list_objects_v2(Bucket=self.settings.bucket).get("Contents", [])
        return sorted(each["Key"] for each in found)


@dataclass(frozen=True)
class KeyServers:
    """A KMS with one key, and an object store; both processes by name."""

    kms: KmsSettings
    store: AwsSettings
    clients: tuple[Any, Any]  # of the KMS, of the store
    processes: Mapping[str, ManagedProcess]

    def bucket(self) -> Bucket:
        """Return a place of its own: a fresh bucket."""
        kms, objects = self.clients
        name = f"keys-{secrets.token_hex(6)}"
        objects.create_bucket(Bucket=name)
        settings = BucketSettings(bucket=name, **dict(self.store))
        variables = {**_variables("KMS", self.kms), **_variables("BUCKET", settings)}
        return Bucket(self.kms, settings, KmsCiphers(kms, self.kms.key_id), objects, variables)


@contextmanager
def hung(servers: KeyServers, *names: str) -> Iterator[None]:
    """Have servers accept what they are asked, and answer nothing meanwhile; all of them without names."""
    pids = [servers.processes[name].pid for name in names or servers.processes]
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            assert pid is not None
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def key_servers(folder: Path, *, tls: bool = False) -> AsyncIterator[KeyServers]:
    """Start both, or leave the test out where they were not built; with `tls` the store, which alone can, speaks it.

    Over TLS versitygw breaks off where the name of a conditional write is taken, so that races are without.
    """
    need_tools(LOCAL_KMS, VERSITYGW)
    for name in ("objects", "versions"):
        (folder / name).mkdir()
    ports = free_port(()), free_port(())
    access, secret = "tests", secrets.token_hex(16)
    ca = certificate(folder, "localhost")[1] if tls else None
    secure = ("--cert", str(ca), "--key", str(ca.with_suffix(".key"))) if ca is not None else ()
    options = ("--access", access, "--secret", secret, "--region", REGION, "--port", f"{HOST}:{ports[1]}", "--quiet")
    store = ("posix", "--versioning-dir", str(folder / "versions"), str(folder / "objects"))
    environment = {"PORT": str(ports[0]), "KMS_DATA_PATH": str(folder / "kms"), "KMS_REGION": REGION}
    processes = (
        ManagedProcess("local-kms", (str(needed_tool(LOCAL_KMS)),), folder / "kms.log", environment=environment),
        ManagedProcess("versitygw", (str(needed_tool(VERSITYGW)), *options, *secure, *store), folder / "versitygw.log"),
    )
    common = {"region": REGION, "access_key": SecretStr(access), "secret_key": SecretStr(secret)}
    at = (
        AwsSettings(endpoint_url=f"http://{HOST}:{ports[0]}", **common),
        AwsSettings(endpoint_url=f"http{'s' * tls}://{HOST}:{ports[1]}", ca=ca, **common),
    )
    clients = tuple(key_client(service, settings) for service, settings in zip(("kms", "s3"), at, strict=True))
    try:
        for process in processes:
            await process.start()
        await processes[0].until(lambda: _answers(clients[0].list_keys), within_s=_UP_WITHIN_S)
        await processes[1].until(lambda: _answers(clients[1].list_buckets), within_s=_UP_WITHIN_S)
        arn = clients[0].create_key()["KeyMetadata"]["Arn"]
        yield KeyServers(
            KmsSettings(key_id=arn, **dict(at[0])), at[1], (clients[0], clients[1]), {p.name: p for p in processes}
        )
    finally:
        for process in processes:
            await process.stop()


async def _answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except BotoCoreError:
        return False
    return True


def plain(settings: AwsSettings) -> dict[str, str]:
    """Return settings as text, secrets included."""
    said = {name: value for name, value in settings if value is not None}
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value) for name, value in said.items()
    }


def _variables(name: str, settings: AwsSettings) -> dict[str, str]:
    return {f"COMITIA_KEYS_{name}__{field.upper()}": value for field, value in plain(settings).items()}
