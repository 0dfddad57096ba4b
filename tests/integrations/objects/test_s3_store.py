"""Locked files in a real object store: the first version counts, and nobody shortens its time."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError
from temporalio.testing import ActivityEnvironment

from activities.audit_sealing import AuditSealingActivities
from comitia.log_copy import LogFolder, copy_log
from comitia.stack.ports import HOST, free_port
from domain.checkpoints import key_id
from domain.contracts.audit import SealAuditLogInput
from domain.errors import DomainError, ErrorCode
from domain.log_verification import verify_log
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import AUDIT_LOG
from integrations.keys.signing import LogKeys, is_signed
from integrations.objects.s3_store import S3LockedObjects, open_s3
from integrations.vendor_settings import S3Settings
from tests.integrations.objects.conftest import ObjectServer
from tests.workflows.test_seal_audit_log import Database, Watch

NAME = "logs/eu/tile/0/x001/234"


@dataclass
class Gateway:
    """A store, and a client of somebody else who may write to the same bucket."""

    settings: S3Settings
    store: S3LockedObjects
    other: Any

    async def did(self, call: str, **fields: Any) -> Any:
        return await asyncio.to_thread(getattr(self.other, call), Bucket=self.settings.bucket, **fields)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(object_server: ObjectServer) -> Gateway:
    await object_server.did("create_bucket", Bucket="audit", ObjectLockEnabledForBucket=True)
    settings = S3Settings(**dict(object_server.settings), bucket="audit", lock_days=1)
    return Gateway(settings, open_s3(settings), object_server.client)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def content(store: S3LockedObjects, name: str) -> bytes:
    return b"".join([piece async for piece in store.read(name)])


def fresh() -> str:
    return f"logs/{secrets.token_hex(4)}/tile/0/000"


async def test_a_file_is_stored_with_its_digest_and_the_first_one_stays(gateway: Gateway) -> None:
    name = fresh()
    first = await gateway.store.put(name, pieces(b"one,", b"two"))
    assert (first.name, first.size_bytes, first.sha256) == (name, 7, hashlib.sha256(b"one,two").digest())
    assert await gateway.store.put(name, pieces(b"another")) == first
    assert await content(gateway.store, name) == b"one,two"


async def test_many_at_once_agree_on_one_file(gateway: Gateway) -> None:
    name = fresh()
    stored = await asyncio.gather(
        *(gateway.store.put(name, pieces(f"{n}".encode() * 100)) for n in range(8)), return_exceptions=True
    )
    kept = {found.sha256 for found in stored if not isinstance(found, BaseException)}
    assert kept == {hashlib.sha256(await content(gateway.store, name)).digest()}
    assert all(found.code is ErrorCode.OBJECTS_UNAVAILABLE for found in stored if isinstance(found, DomainError))


async def test_what_is_put_over_a_file_or_hides_it_changes_nothing(gateway: Gateway) -> None:
    folder = f"logs/{secrets.token_hex(4)}/tile"
    name = f"{folder}/0/000"
    stored = await gateway.store.put(name, pieces(b"first"))
    await gateway.did("put_object", Key=name, Body=b"second")
    assert await content(gateway.store, name) == b"first"
    await gateway.did("delete_object", Key=name)
    assert await content(gateway.store, name) == b"first"
    assert await gateway.store.names(f"{folder}/0") == ["000"]
    assert await gateway.store.put(name, pieces(b"third")) == stored


async def test_names_are_those_directly_in_a_folder(gateway: Gateway) -> None:
    folder = f"logs/{secrets.token_hex(4)}/tile"
    for name in ("0/000", "0/001.p/44", "1/000", "entries/000"):
        await gateway.store.put(f"{folder}/{name}", pieces(b"x"))
    assert await gateway.store.names(folder) == ["0", "1", "entries"]
    assert await gateway.store.names(f"{folder}/0") == ["000", "001.p"]
    assert await gateway.store.names(f"{folder}/9") == []


async def test_nobody_deletes_a_file_or_shortens_its_time(gateway: Gateway) -> None:
    name, locked_until = fresh(), datetime.now(UTC) + timedelta(days=gateway.settings.lock_days)
    await gateway.store.put(name, pieces(b"kept"))
    (version,) = (await gateway.did("list_object_versions", Prefix=name))["Versions"]
    ident = version["VersionId"]
    lock = (await gateway.did("get_object_retention", Key=name, VersionId=ident))["Retention"]
    assert lock["Mode"] == "COMPLIANCE"
    assert timedelta(seconds=-1) <= lock["RetainUntilDate"] - locked_until < timedelta(minutes=1)
    soon = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(minutes=1)}
    for call, fields in (
        ("delete_object", {}),
        ("put_object_retention", {"Retention": soon}),
        ("delete_object", {"BypassGovernanceRetention": True}),
    ):
        with pytest.raises(ClientError) as refused:
            await gateway.did(call, Key=name, VersionId=ident, **fields)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert await content(gateway.store, name) == b"kept"


async def test_a_log_is_sealed_there_and_found_again(gateway: Gateway, tmp_path: Path) -> None:
    database, log = Database(), f"log{secrets.token_hex(4)}"
    signer = LogKeys(FileKms(tmp_path, frozenset({AUDIT_LOG})), AUDIT_LOG)
    sealing = AuditSealingActivities({log: database}, gateway.store, signer, Watch(), environment="test")
    environment, request = ActivityEnvironment(), SealAuditLogInput(log=log)
    for count in (5, 600):
        database.write(count)
        head = await environment.run(
            sealing.write_audit_tiles, await environment.run(sealing.sequence_audit_log, request)
        )
        await environment.run(sealing.sign_audit_head, head)
    assert await copy_log(gateway.store, log, tmp_path / "copy") > 8
    (key,) = await signer.public_keys()
    origin = f"comitia/test/{log}"
    checks, newest = verify_log(LogFolder(tmp_path / "copy"), {(origin, key_id(origin, key)): key}, is_signed)
    assert [check for check in checks if not check.holds] == []
    assert newest is not None
    assert newest.size == 605


async def test_a_bucket_without_locks_is_refused(gateway: Gateway) -> None:
    await gateway.store.require_lock()
    name = f"plain-{secrets.token_hex(4)}"
    await asyncio.to_thread(gateway.other.create_bucket, Bucket=name)
    with pytest.raises(LookupError, match="no Object Lock"):
        await open_s3(gateway.settings.model_copy(update={"bucket": name})).require_lock()
    with pytest.raises(DomainError):
        await open_s3(gateway.settings.model_copy(update={"bucket": "nobodys"})).require_lock()


class Unlocked:
    """A server that has a configuration of locks for every bucket, and none of them is on."""

    def get_object_lock_configuration(self, **_asked: str) -> dict[str, Any]:
        return {"ObjectLockConfiguration": {}}


async def test_a_bucket_whose_locks_are_not_on_is_refused() -> None:
    with pytest.raises(LookupError, match="no Object Lock"):
        await S3LockedObjects(Unlocked(), "audit", timedelta(days=1)).require_lock()


async def test_what_is_not_there_or_away_is_unavailable(gateway: Gateway) -> None:
    away = gateway.settings.model_copy(update={"endpoint_url": f"http://{HOST}:{free_port(())}"})
    unknown = gateway.settings.model_copy(update={"bucket": "nobodys"})
    for store, name in ((gateway.store, fresh()), (open_s3(away), NAME), (open_s3(unknown), NAME)):
        with pytest.raises(DomainError) as refused:
            await content(store, name)
        assert refused.value.code is ErrorCode.OBJECTS_UNAVAILABLE
