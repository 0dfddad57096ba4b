"""Files that nobody can change or delete before their time, in a bucket with versions and Object Lock (S3).

Of a name the first version counts. Whoever may write to the bucket can put another version over it, or a mark that
hides it; neither is looked at, so neither hides anything from whoever reads here.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from domain.contracts.exports import StoredObject
from domain.errors import DomainError, ErrorCode
from domain.pieces import joined
from integrations.aws_clients import aws_client, code_of
from integrations.objects.s3_answers import IS_THERE, unavailable
from integrations.vendor_settings import S3Settings

CONTENT_MAX = 64 * 1024 * 1024  # bytes of a file: these are tiles and bundles
_READ_TIMEOUT_S = 20.0
_NOT_CONFIGURED = "ObjectLockConfigurationNotFoundError"


class S3LockedObjects:
    """Implements `LockedObjects`; its calls run in threads, since the driver blocks."""

    def __init__(self, client: Any, bucket: str, keep: timedelta) -> None:
        """`keep` is for how long from now a file is locked, in the mode that nobody can shorten."""
        self._client = client
        self._bucket = bucket
        self._keep = keep

    async def require_lock(self) -> None:
        """See that the bucket keeps versions and lets them be locked.

        Raises:
            LookupError: it does not: what is written there could be taken away.
            DomainError: `objects_unavailable`, also where the bucket is not there.
        """
        with unavailable():
            is_locking = await asyncio.to_thread(self._is_locking)
        if not is_locking:
            raise LookupError(f"the bucket {self._bucket} has no Object Lock")

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> StoredObject:
        """Store a file of at most `CONTENT_MAX`, locked; of a name that is there already the first file stays.

        Raises:
            DomainError: `objects_unavailable`.
        """
        content = await joined(pieces)
        if len(content) > CONTENT_MAX:
            raise ValueError(f"{len(content)} bytes are too many for {name}")
        with unavailable():
            return await asyncio.to_thread(self._put, name, content)

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """Return the content of a stored file.

        Raises:
            DomainError: `objects_unavailable`, also where it is not there.
        """
        with unavailable():
            content = await asyncio.to_thread(self._read, name)
        yield content

    async def names(self, folder: str) -> list[str]:
        """Return the names directly in a folder, files and folders, sorted; none where there is no such folder.

        Raises:
            DomainError: `objects_unavailable`.
        """
        with unavailable():
            return sorted(await asyncio.to_thread(self._names, f"{folder}/"))

    def _is_locking(self) -> bool:
        try:
            answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            if code_of(error) == _NOT_CONFIGURED:
                return False
            raise
        return bool(answer["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled")

    def _put(self, name: str, content: bytes) -> StoredObject:
        written = ""
        try:
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=name,
                Body=content,
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                ObjectLockMode="COMPLIANCE",
                ObjectLockRetainUntilDate=datetime.now(UTC) + self._keep,
            )
            written = answer.get("VersionId", "")
        except ClientError as error:
            if code_of(error) != IS_THERE:
                raise
        first = self._first(name)
        kept = content if written and first == written else self._get(name, first)
        return StoredObject(name=name, size_bytes=len(kept), sha256=hashlib.sha256(kept).digest())

    def _read(self, name: str) -> bytes:
        return self._get(name, self._first(name))

    def _get(self, name: str, version: str) -> bytes:
        answer = self._client.get_object(Bucket=self._bucket, Key=name, VersionId=version)
        content: bytes = answer["Body"].read()
        return content

    def _first(self, name: str) -> str:
        """The id of the first version of a file: the last that is listed, since the newest comes first."""
        found = [each["VersionId"] for page in self._pages(name) for each in page["Versions"] if each["Key"] == name]
        if not found:
            raise DomainError(ErrorCode.OBJECTS_UNAVAILABLE, "not there")
        version: str = found[-1]
        return version

    def _names(self, prefix: str) -> set[str]:
        names = set[str]()
        for page in self._pages(prefix, Delimiter="/"):
            names |= {each["Key"].removeprefix(prefix) for each in page["Versions"]}
            names |= {each["Prefix"].removeprefix(prefix).rstrip("/") for each in page["CommonPrefixes"]}
        return names - {""}

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, list[dict[str, Any]]]]:
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=prefix, **options
        )
        for page in pages:
            yield {name: page.get(name, []) for name in ("Versions", "CommonPrefixes")}


def open_s3(settings: S3Settings) -> S3LockedObjects:
    """Return the store of these settings; the bucket is there, with versions and Object Lock."""
    return S3LockedObjects(
        aws_client("s3", settings, read_timeout_s=_READ_TIMEOUT_S), settings.bucket, timedelta(days=settings.lock_days)
    )
