"""Files of results in a real bucket: whole or not at all, the first of a name, however large."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api.surveys import composition as surveys
from comitia.stack.ports import HOST, free_port
from domain.errors import DomainError, ErrorCode
from integrations.objects.file_store import FileObjectStore
from integrations.objects.files import open_files
from integrations.objects.s3_files import S3Files, open_s3_files
from integrations.settings import Environment, Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.vendor_settings import BucketSettings
from tests.conftest import SettingsFor
from tests.integrations.objects.conftest import ObjectServer
from tests.integrations.objects.test_s3_store import pieces
from workers import certification, platform

PART = 5 * 1024 * 1024  # the smallest that S3 takes
LARGE = [bytes([number]) * 700_001 for number in range(17)]  # three parts


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bucket(object_server: ObjectServer) -> BucketSettings:
    await object_server.did("create_bucket", Bucket="results")
    return BucketSettings(**dict(object_server.settings), bucket="results")


@pytest.fixture
def store(bucket: BucketSettings, object_server: ObjectServer) -> S3Files:
    return S3Files(object_server.client, bucket.bucket, part_bytes=PART)


async def content(store: S3Files, name: str) -> bytes:
    return b"".join([piece async for piece in store.read(name)])


def fresh() -> str:
    return f"exports/s_{secrets.token_hex(4)}/x_a.csv"


async def unfinished(server: ObjectServer) -> list[str]:
    return [each["Key"] for each in (await server.did("list_multipart_uploads", Bucket="results")).get("Uploads", [])]


@pytest.mark.parametrize("parts", [[], [b""], [b"one,", b"", b"two"], [bytes(PART)], [bytes(PART), b"x"], LARGE])
async def test_a_file_is_stored_with_its_digest_and_the_first_one_stays(
    store: S3Files, object_server: ObjectServer, parts: list[bytes]
) -> None:
    name, whole = fresh(), b"".join(parts)
    stored = await store.put(name, pieces(*parts))
    assert (stored.name, stored.size_bytes, stored.sha256) == (name, len(whole), hashlib.sha256(whole).digest())
    assert await content(store, name) == whole
    for others in ([b"another"], LARGE[::-1]):
        assert await store.put(name, pieces(*others)) == stored
    assert await content(store, name) == whole
    assert name not in await unfinished(object_server)


@pytest.mark.parametrize("large", [False, True])
async def test_many_at_once_agree_on_one_file(store: S3Files, *, large: bool) -> None:
    name = fresh()
    stored = await asyncio.gather(*(store.put(name, pieces(bytes([n]) * (PART + 9 if large else 9))) for n in range(6)))
    assert {each.sha256 for each in stored} == {hashlib.sha256(await content(store, name)).digest()}


@pytest.mark.parametrize("parts", [[b"half"], LARGE])
async def test_half_a_file_is_no_file(store: S3Files, object_server: ObjectServer, parts: list[bytes]) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for part in parts:
            yield part
        raise RuntimeError("the source ended early")

    name = fresh()
    with pytest.raises(RuntimeError, match="ended early"):
        await store.put(name, broken())
    with pytest.raises(DomainError) as refused:
        await content(store, name)
    assert refused.value.code is ErrorCode.OBJECTS_UNAVAILABLE
    assert name not in await unfinished(object_server)


async def test_a_file_is_taken_away_once_and_another_may_have_its_name(store: S3Files) -> None:
    name = fresh()
    await store.put(name, pieces(b"first"))
    await asyncio.gather(*(store.remove(name) for _ in range(3)))
    await store.remove(fresh())
    with pytest.raises(DomainError):
        await content(store, name)
    await store.put(name, pieces(b"second"))
    assert await content(store, name) == b"second"


async def test_a_store_that_is_away_is_unavailable(bucket: BucketSettings) -> None:
    away = bucket.model_copy(update={"endpoint_url": f"http://{HOST}:{free_port(())}"})
    unknown = bucket.model_copy(update={"bucket": "nobodys"})
    for store in map(open_s3_files, (away, unknown)):
        for large in (b"x", bytes(9 * 1024 * 1024)):
            with pytest.raises(DomainError) as refused:
                await store.put(fresh(), pieces(large))
            assert refused.value.code is ErrorCode.OBJECTS_UNAVAILABLE
        with pytest.raises(DomainError) as refused:
            await store.remove(fresh())
        assert refused.value.code is ErrorCode.OBJECTS_UNAVAILABLE


async def test_production_keeps_results_in_a_bucket(bucket: BucketSettings, tmp_path: Path) -> None:
    def settings(environment: Environment, **more: object) -> Settings:
        return Settings(environment=environment, **more)  # type: ignore[arg-type]

    folder = {"objects_folder": tmp_path}
    assert isinstance(open_files(settings(Environment.TEST, **folder)), FileObjectStore)
    assert isinstance(open_files(settings(Environment.PRODUCTION, **folder, files_bucket=bucket)), S3Files)
    for wrong in (settings(Environment.PRODUCTION, **folder), settings(Environment.TEST)):
        with pytest.raises(LookupError, match="COMITIA_FILES_BUCKET"):
            open_files(wrong)


@pytest.mark.parametrize("service", ["certification", "platform", "surveys"])
async def test_no_service_keeps_them_on_its_disk_in_production(
    settings_for: SettingsFor, tmp_path: Path, service: str
) -> None:
    settings = settings_for(objects_folder=tmp_path).model_copy(update={"environment": Environment.PRODUCTION})
    telemetry, stopping = make_telemetry(settings, service), asyncio.Event()
    async with AsyncExitStack() as lifetime:
        starts: dict[str, Callable[[], Awaitable[Any]]] = {
            "certification": lambda: certification.run(settings, lifetime, telemetry, stopping),
            "platform": lambda: platform.run(settings, lifetime, telemetry, stopping),
            "surveys": lambda: surveys.compose(settings, lifetime, telemetry),
        }
        with pytest.raises(LookupError, match="COMITIA_FILES_BUCKET"):
            await starts[service]()
