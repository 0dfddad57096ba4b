"""Files of results in a bucket (S3): each is written once, in parts where it is large, and read as it comes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Any, Final, TypeVar

from botocore.exceptions import ClientError

from domain.contracts.exports import StoredObject
from integrations.aws_clients import aws_client, code_of
from integrations.objects.s3_answers import IS_THERE, unavailable
from integrations.vendor_settings import BucketSettings

PART_BYTES: Final = 8 * 1024 * 1024  # S3 takes parts of 5 MiB and more, 10,000 of a file
_PIECE_BYTES: Final = 256 * 1024
_READ_TIMEOUT_S: Final = 20.0
_AT_ONCE: Final = "ConditionalRequestConflict"  # somebody else finishes the same name: theirs may stay

R = TypeVar("R")


class S3Files:
    """Implements `ExportObjects`; its calls run in threads, since the driver blocks."""

    def __init__(self, client: Any, bucket: str, *, part_bytes: int = PART_BYTES) -> None:
        self._client = client
        self._bucket = bucket
        self._part_bytes = part_bytes

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> StoredObject:
        """Store a file as a whole or not at all; of a name that is there already the first file stays.

        Raises:
            DomainError: `objects_unavailable`.
        """
        digest, size = hashlib.sha256(), 0
        upload = _Upload(self._client, self._bucket, name)
        try:
            async for part in self._parts(pieces):
                digest.update(part)
                size += len(part)
                await _threaded(upload.add, part)
            if await _threaded(upload.finish):
                return StoredObject(name=name, size_bytes=size, sha256=digest.digest())
        except BaseException:
            await asyncio.shield(asyncio.to_thread(upload.give_up))
            raise
        return await self._describe(name)

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """Return the pieces of a stored file.

        Raises:
            DomainError: `objects_unavailable`, also where it is not there.
        """
        answer = await _threaded(self._client.get_object, Bucket=self._bucket, Key=name)
        with closing(answer["Body"]) as body:
            while piece := await _threaded(body.read, _PIECE_BYTES):
                yield piece

    async def remove(self, name: str) -> None:
        """Take a file away, where it is there. Safe to repeat.

        Raises:
            DomainError: `objects_unavailable`.
        """
        await _threaded(self._client.delete_object, Bucket=self._bucket, Key=name)

    async def _describe(self, name: str) -> StoredObject:
        digest, size = hashlib.sha256(), 0
        async for piece in self.read(name):
            digest.update(piece)
            size += len(piece)
        return StoredObject(name=name, size_bytes=size, sha256=digest.digest())

    async def _parts(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        part = bytearray()
        async for piece in pieces:
            part += piece
            while len(part) >= self._part_bytes:
                yield bytes(part[: self._part_bytes])
                del part[: self._part_bytes]
        if part:
            yield bytes(part)


class _Upload:
    """One file on its way: it is there once `finish` says so, and no part of it before. Its calls block."""

    def __init__(self, client: Any, bucket: str, name: str) -> None:
        self._client = client
        self._of: dict[str, str] = {"Bucket": bucket, "Key": name}
        self._first: bytes | None = None  # kept until there is another: a small file needs no upload in parts
        self._id = ""
        self._parts: list[dict[str, Any]] = []

    def add(self, part: bytes) -> None:
        if self._first is None:
            self._first = part
            return
        if not self._id:
            self._id = self._client.create_multipart_upload(**self._of)["UploadId"]
            self._send(self._first)
        self._send(part)

    def _send(self, part: bytes) -> None:
        number = len(self._parts) + 1
        answer = self._client.upload_part(**self._of, UploadId=self._id, PartNumber=number, Body=part)
        self._parts.append({"ETag": answer["ETag"], "PartNumber": number})

    def finish(self) -> bool:
        """Give the file its name, or return False where another one has it."""
        try:
            if self._id:
                self._client.complete_multipart_upload(
                    **self._of, UploadId=self._id, MultipartUpload={"Parts": self._parts}, IfNoneMatch="*"
                )
            else:
                self._client.put_object(**self._of, Body=self._first or b"", IfNoneMatch="*")
        except ClientError as error:
            if code_of(error) not in {IS_THERE, _AT_ONCE}:
                raise
            self.give_up()
            return False
        return True

    def give_up(self) -> None:
        """Have the store forget the parts; what is left anyway, a rule of the bucket takes away."""
        if self._id:
            upload, self._id = self._id, ""
            with unavailable():
                self._client.abort_multipart_upload(**self._of, UploadId=upload)


async def _threaded(call: Callable[..., R], *arguments: Any, **named: Any) -> R:
    with unavailable():
        return await asyncio.to_thread(call, *arguments, **named)


def open_s3_files(settings: BucketSettings) -> S3Files:
    """Return the store of these settings; the bucket is there."""
    return S3Files(aws_client("s3", settings, read_timeout_s=_READ_TIMEOUT_S), settings.bucket)
