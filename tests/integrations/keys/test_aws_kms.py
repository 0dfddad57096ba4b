"""Keys under AWS KMS: what lies in the bucket, what a context keeps apart, and what holds while a server is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nacl.bindings import crypto_sign_seed_keypair
from pydantic import SecretStr

from comitia.stack.ports import HOST, free_port
from domain.errors import DomainError, ErrorCode
from integrations.keys.aws_kms import AwsKms, EncryptedKeys, key_client, open_aws_kms
from integrations.keys.held_keys import HELD_S
from integrations.keys.key_bucket import CONTENT_MAX, KeyBucket
from integrations.keys.kms_ciphers import Part
from integrations.keys.purposes import EVIDENCE, KEK_BALLOT, LIMITS, VOTING_TOKEN, public
from tests.integrations.keys.places import Bucket, KeyServers, hung, key_servers

GARBAGE = {
    "no HTTP": b"what?\r\n\r\n",
    "an empty answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "half an answer": b'HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{"Plaintext":',
    "another form": b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"Plaintext": [1, 2]}',
    "no base64": b'HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n{"Plaintext": "?", "CiphertextBlob": "??"} ',
    "a short key": b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"Plaintext": "AAAA", "CiphertextBlob": "AAAAAAAA"}',
    "a page": b"HTTP/1.1 503 No\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>no</html>",
    "XML": b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n<a></b>!",
}
WITHIN_S = 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeyServers]:
    folder: Path = tmp_path_factory.mktemp("key-servers")
    async with key_servers(folder) as found:
        yield found


@pytest.fixture
def bucket(servers: KeyServers) -> Bucket:
    return servers.bucket()


@contextmanager
def refused(code: ErrorCode = ErrorCode.KEY_UNAVAILABLE) -> Iterator[None]:
    with pytest.raises(DomainError) as raised:
        yield
    assert raised.value.code is code


@asynccontextmanager
async def answering_always(content: bytes) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(content)
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"


def elsewhere(bucket: Bucket, *, kms: str = "", store: str = "") -> AwsKms:
    """The service of a process that finds a server at another address."""
    settings = bucket.kms.model_copy(update={"endpoint_url": kms or bucket.kms.endpoint_url})
    objects = bucket.settings.model_copy(update={"endpoint_url": store or bucket.settings.endpoint_url})
    return open_aws_kms(settings, objects, frozenset({LIMITS, VOTING_TOKEN}))


async def test_no_key_lies_in_the_bucket_in_the_clear(bucket: Bucket) -> None:
    key = await bucket.open(EVIDENCE).current(EVIDENCE)
    assert bucket.names() == [f"{key.key_id}.key", f"{key.key_id}.pub"]
    parts = (key.secret, crypto_sign_seed_keypair(key.secret)[0])
    for name in bucket.names():
        content = bucket.get(name)
        assert all(part not in content and part.hex().encode() not in content for part in parts)


async def test_nothing_is_left_of_a_destroyed_key_but_its_name(bucket: Bucket) -> None:
    keys = bucket.open(EVIDENCE)
    key = await keys.current(EVIDENCE)
    await keys.destroy(key.key_id)
    assert bucket.names() == [f"{key.key_id}.key"]
    assert bucket.get(f"{key.key_id}.key") == b""


async def test_a_destruction_that_was_cut_short_is_one_and_is_finished_by_the_next(bucket: Bucket) -> None:
    keys = bucket.open(EVIDENCE)
    key = await keys.current(EVIDENCE)
    published = bucket.get(f"{key.key_id}.pub")
    bucket.put(f"{key.key_id}.key", b"")  # and then its destroyer was killed
    other = bucket.open(EVIDENCE)
    assert await other.public_keys(EVIDENCE) == {}
    with refused(ErrorCode.KEY_DESTROYED):
        await other.by_id(key.key_id)
    await other.destroy(key.key_id)
    assert bucket.names() == [f"{key.key_id}.key"]
    bucket.put(f"{key.key_id}.pub", published)  # as somebody who read the key before would publish it
    assert await other.public_keys(EVIDENCE) == {}
    assert (await other.current(EVIDENCE)).key_id != key.key_id


async def test_a_bucket_that_keeps_versions_is_refused(bucket: Bucket) -> None:
    keys = bucket.open(LIMITS)
    key = await keys.current(LIMITS)
    for status in ("Enabled", "Suspended"):
        bucket.objects.put_bucket_versioning(Bucket=bucket.settings.bucket, VersioningConfiguration={"Status": status})
        for refusing in (keys.destroy(key.key_id), keys.rotate(LIMITS)):
            with pytest.raises(DomainError, match="keeps versions"):
                await refusing
    assert await bucket.open(LIMITS).by_id(key.key_id) == key


async def test_a_ciphertext_opens_as_what_it_was_made_for_only(bucket: Bucket) -> None:
    keys = bucket.open(LIMITS, EVIDENCE)
    older, newer, signing = await keys.current(LIMITS), await keys.rotate(LIMITS), await keys.current(EVIDENCE)
    kept = bucket.get(f"{newer.key_id}.key")
    for other in (f"{older.key_id}.key", f"{signing.key_id}.key", f"{signing.key_id}.pub"):
        bucket.put(f"{newer.key_id}.key", bucket.get(other))
        with refused():
            await bucket.open(LIMITS).by_id(newer.key_id)
    bucket.put(f"{newer.key_id}.key", kept)
    assert await bucket.open(LIMITS).by_id(newer.key_id) == newer


async def test_no_public_key_is_believed_that_kms_did_not_encrypt_as_one(bucket: Bucket) -> None:
    key = await bucket.open(EVIDENCE).current(EVIDENCE)
    forged = crypto_sign_seed_keypair(bytes(32))[0]
    under_another = bucket.ciphers.seal(key.key_id.replace("/1", "/2"), Part.PUBLIC, forged)
    as_secret = bucket.ciphers.seal(key.key_id, Part.SECRET, forged)
    for content in (forged, under_another, as_secret, b"", bytes(7000)):
        bucket.put(f"{key.key_id}.pub", content)
        with refused():
            await bucket.open(public(EVIDENCE)).public_keys(EVIDENCE)


async def test_no_key_is_taken_that_another_key_of_kms_encrypts(servers: KeyServers, bucket: Bucket) -> None:
    key = await bucket.open(LIMITS).current(LIMITS)
    kms, _ = servers.clients
    foreign = kms.create_key()["KeyMetadata"]["Arn"]
    context = {"purpose": LIMITS, "key": key.key_id, "part": "secret"}
    bucket.put(
        f"{key.key_id}.key",
        kms.encrypt(KeyId=foreign, Plaintext=bytes(32), EncryptionContext=context)["CiphertextBlob"],
    )
    with refused():
        await bucket.open(LIMITS).by_id(key.key_id)


async def test_a_key_is_held_for_a_minute_and_then_read_anew(bucket: Bucket) -> None:
    clock = [1000.0]
    keys = AwsKms(bucket.place(now=lambda: clock[0]), frozenset({LIMITS}))
    key = await keys.current(LIMITS)
    await bucket.open(LIMITS).destroy(key.key_id)
    clock[0] += HELD_S - 1
    assert await keys.by_id(key.key_id) == key
    clock[0] += 1
    with refused(ErrorCode.KEY_DESTROYED):
        await keys.by_id(key.key_id)


async def test_what_is_held_leaves_memory_at_the_next_look_at_another(bucket: Bucket) -> None:
    clock = [1000.0]
    place: EncryptedKeys = bucket.place(now=lambda: clock[0])
    keys = AwsKms(place, frozenset({LIMITS, KEK_BALLOT}))
    key, other = await keys.current(LIMITS), await keys.current(KEK_BALLOT)
    assert await keys.by_id(key.key_id) is await keys.by_id(key.key_id)
    clock[0] += HELD_S
    await keys.by_id(other.key_id)
    assert list(place.held._held) == [other.key_id]


async def test_whoever_destroys_a_key_holds_it_no_longer(bucket: Bucket) -> None:
    keys = bucket.open(LIMITS)
    key = await keys.current(LIMITS)
    await keys.destroy(key.key_id)
    with refused(ErrorCode.KEY_DESTROYED):
        await keys.by_id(key.key_id)


@pytest.mark.parametrize("name", ["local-kms", "versitygw"])
async def test_a_server_that_hangs_is_waited_for_within_limits(servers: KeyServers, bucket: Bucket, name: str) -> None:
    key = await bucket.open(LIMITS).current(LIMITS)
    keys = bucket.open(LIMITS, within_s=WITHIN_S)
    with hung(servers, name):
        began = time.monotonic()
        for _ in range(2):
            with refused():
                await keys.by_id(key.key_id)
        assert time.monotonic() - began < 2 * WITHIN_S + 6  # one alone, with its tries, would take nine
    async with asyncio.timeout(30):
        while True:
            try:
                assert await keys.by_id(key.key_id) == key
                break
            except DomainError:  # the threads still wait for what they asked while it hung
                await asyncio.sleep(0.1)


async def test_what_is_held_is_used_while_both_are_away(servers: KeyServers, bucket: Bucket) -> None:
    keys = bucket.open(KEK_BALLOT)
    made = await keys.generate_data_key(KEK_BALLOT, "s_1")
    with hung(servers):
        assert await keys.unwrap(made.wrapped, "s_1") == made.plaintext


async def test_a_server_that_is_not_there_is_unavailable(bucket: Bucket) -> None:
    await bucket.open(LIMITS).current(LIMITS)
    nowhere = f"http://{HOST}:{free_port(())}"
    for keys in (elsewhere(bucket, kms=nowhere), elsewhere(bucket, store=nowhere)):
        with refused():
            await keys.current(LIMITS)


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
async def test_an_answer_that_makes_no_sense_is_none(bucket: Bucket, content: bytes) -> None:
    async with answering_always(content) as address:
        for keys in (elsewhere(bucket, kms=address), elsewhere(bucket, store=address)):
            with refused():
                await keys.current(LIMITS)
    assert bucket.names() == []


async def test_an_answer_that_says_nothing_is_no_list_and_nothing_that_is_stored(bucket: Bucket) -> None:
    async with answering_always(GARBAGE["an empty answer"]) as address:
        settings = bucket.settings.model_copy(update={"endpoint_url": address})
        objects = KeyBucket(key_client("s3", settings), settings.bucket)
        with refused():
            await asyncio.to_thread(objects.sizes, "limits/")
        for put in (objects.put_new, objects.overwrite):
            with refused():
                await asyncio.to_thread(put, "a", b"1")


async def test_no_more_is_read_than_a_ciphertext_has(bucket: Bucket) -> None:
    bucket.put("long", bytes(CONTENT_MAX + 1))
    with pytest.raises(DomainError, match="long is no ciphertext"):
        KeyBucket(bucket.objects, bucket.settings.bucket).get("long")


async def test_whoever_kms_or_the_bucket_refuses_gets_no_key(bucket: Bucket) -> None:
    key = await bucket.open(LIMITS).current(LIMITS)
    unknown: list[dict[str, Any]] = [
        {"kms": bucket.kms.model_copy(update={"key_id": bucket.kms.key_id[:-4] + "0000"})},
        {"bucket": bucket.settings.model_copy(update={"bucket": "nobodys"})},
        {"bucket": bucket.settings.model_copy(update={"secret_key": SecretStr("wrong")})},
    ]
    for each in unknown:
        keys = open_aws_kms(**{"kms": bucket.kms, "bucket": bucket.settings, "allowed": frozenset({LIMITS}), **each})
        for asking in (keys.current(LIMITS), keys.by_id(key.key_id), keys.rotate(LIMITS)):
            with refused():
                await asking


async def test_a_server_is_trusted_by_the_authority_that_is_named(tmp_path: Path) -> None:
    async with key_servers(tmp_path, tls=True) as servers:
        bucket, allowed = servers.bucket(), frozenset({LIMITS})
        keys = open_aws_kms(bucket.kms, bucket.settings, allowed)
        key = await keys.current(LIMITS)
        assert await bucket.open(LIMITS).by_id(key.key_id) == key
        distrustful = open_aws_kms(bucket.kms, bucket.settings.model_copy(update={"ca": None}), allowed)
        with pytest.raises(DomainError, match="SSLError"):
            await distrustful.by_id(key.key_id)
