"""Small objects in a bucket that keeps no versions, so that what is overwritten is gone."""

from contextlib import closing
from typing import Any

from botocore.exceptions import ClientError

from domain.errors import DomainError, ErrorCode
from integrations.aws_clients import code_of
from integrations.keys.answers import answering

CONTENT_MAX = 6144  # bytes, the longest ciphertext that KMS takes
_WHO = "the bucket of keys"
_NOT_THERE = frozenset({"NoSuchKey", "404"})
_IS_THERE = "PreconditionFailed"
_AT_ONCE = "ConditionalRequestConflict"  # somebody else writes the same name: to be asked again


class KeyBucket:
    """Its calls block; all raise DomainError `key_unavailable`."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def require_final(self) -> None:
        """See that the bucket keeps no versions: in one that does, or did, nothing could be destroyed."""
        with answering(_WHO):
            answer = self._client.get_bucket_versioning(Bucket=self._bucket)
        if "Status" in answer:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"{_WHO} keeps versions: no key in it could be destroyed")

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return how many bytes each object has whose name begins so."""
        with answering(_WHO):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            # An answer that does not say how many there are is no list, and no empty one either
            return {each["Key"]: int(each["Size"]) for page in pages if page["KeyCount"] for each in page["Contents"]}

    def get(self, name: str) -> bytes | None:
        """Return the content of an object, or None where there is none."""
        with answering(_WHO):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=name)
            except ClientError as error:
                if code_of(error) in _NOT_THERE:
                    return None
                raise
            with closing(answer["Body"]) as body:
                content: bytes = body.read(CONTENT_MAX + 1)
        if len(content) > CONTENT_MAX:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, f"{_WHO}: {name} is no ciphertext")
        return content

    def has(self, name: str) -> bool:
        """Tell whether there is an object of that name."""
        with answering(_WHO):
            try:
                self._client.head_object(Bucket=self._bucket, Key=name)
            except ClientError as error:
                if code_of(error) in _NOT_THERE:
                    return False
                raise
        return True

    def put_new(self, name: str, content: bytes) -> None:
        """Store an object as a whole, or raise FileExistsError where there is one of that name."""
        with answering(_WHO):
            for tries_left in (2, 1, 0):
                try:
                    self._put(name, content, IfNoneMatch="*")
                except ClientError as error:
                    if code_of(error) == _IS_THERE:
                        raise FileExistsError(name) from None
                    if not tries_left or code_of(error) != _AT_ONCE:
                        raise
                else:
                    return

    def overwrite(self, name: str, content: bytes) -> None:
        """Store an object as a whole, whatever was there."""
        with answering(_WHO):
            self._put(name, content)

    def _put(self, name: str, content: bytes, **condition: str) -> None:
        answer = self._client.put_object(Bucket=self._bucket, Key=name, Body=content, **condition)
        if "ETag" not in answer:  # which every store says of what it has stored
            raise ValueError(name)

    def remove(self, name: str) -> None:
        """Take an object away, where it is there."""
        with answering(_WHO):
            self._client.delete_object(Bucket=self._bucket, Key=name)
