"""A copy of a log is what C2SP tlog-tiles says: read here by a reader that is written from the specification alone.

It shares no code with ours: paths, hashes, notes and keys are its own. Sources: C2SP tlog-tiles v1, tlog-checkpoint and
signed-note, and RFC 6962 section 2.1.
"""

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from nacl.signing import VerifyKey

from comitia.log_copy import copy_log
from domain.merkle_tiles import Tile
from integrations.objects.file_store import FileObjectStore
from tests.log_world import VERIFIER_KEY, sealed_files

Read = Callable[[str], bytes]
SEALED_AT = (3, 256, 257, 700, 65_536, 66_000)  # two levels of whole tiles, and the third begun


def spec_path(level: str, number: int, width: int) -> str:
    """`<prefix>/tile/<L>/<N>[.p/<W>]`: N in elements of three digits, all but the last behind an x."""
    elements = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        elements.append(f"x{number % 1000:03d}")
    return f"tile/{level}/{'/'.join(reversed(elements))}{'' if width == 256 else f'.p/{width}'}"


def spec_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 over hashes of leaves."""
    if len(hashes) == 1:
        return hashes[0]
    left = 1
    while left * 2 < len(hashes):
        left *= 2
    return hashlib.sha256(b"\x01" + spec_root(hashes[:left]) + spec_root(hashes[left:])).digest()


def spec_checkpoint(note: bytes, verifier_key: str) -> tuple[int, bytes]:
    """Open a signed note of one Ed25519 key and read the checkpoint in it."""
    name, key_hash, encoded = verifier_key.split("+", 2)
    key = base64.b64decode(encoded)
    assert key[0] == 1
    assert hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() == key_hash
    text, signatures = note.split(b"\n\n")
    dash, signer, signature = signatures.decode().removesuffix("\n").split(" ")
    assert (dash, signer) == ("\u2014", name)
    raw = base64.b64decode(signature, validate=True)
    assert raw[:4].hex() == key_hash
    VerifyKey(key[1:]).verify(text + b"\n", raw[4:])
    origin, size, root = text.decode().split("\n")
    assert origin == name
    assert str(int(size)) == size
    return int(size), base64.b64decode(root, validate=True)


def spec_bundle(content: bytes) -> list[bytes]:
    """Entries, each behind a big-endian uint16 with its length."""
    entries = []
    while content:
        length = int.from_bytes(content[:2], "big")
        assert len(content) >= 2 + length
        entries.append(content[2 : 2 + length])
        content = content[2 + length :]
    return entries


def spec_read(read: Read) -> list[bytes]:
    """Return every entry of a log, once its newest checkpoint and every tile under that agree with them."""
    size, root = spec_checkpoint(read("checkpoint"), VERIFIER_KEY)
    entries = list[bytes]()
    for number in range(-(-size // 256)):
        width = min(256, size - number * 256)
        bundle = spec_bundle(read(spec_path("entries", number, width)))
        assert len(bundle) == width
        entries += bundle
    hashes = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    assert spec_root(hashes) == root
    level = 0
    while hashes:
        for number in range(-(-len(hashes) // 256)):
            part = hashes[number * 256 : number * 256 + 256]
            assert read(spec_path(str(level), number, len(part))) == b"".join(part)
        hashes = [spec_root(hashes[at : at + 256]) for at in range(0, len(hashes) - 255, 256)]
        level += 1
    assert level == 1 + (size >= 256) + (size >= 256 * 256)
    return entries


@pytest.mark.parametrize("number", [0, 7, 67, 999, 1000, 1067, 999_999, 1_000_000, 1_234_067])
@pytest.mark.parametrize("width", [1, 255, 256])
def test_every_path_is_the_specifications(number: int, width: int) -> None:
    assert Tile(0, number, width).path == spec_path("0", number, width)
    assert Tile(5, number, width).path == spec_path("5", number, width)
    assert Tile(0, number, width).entries_path == spec_path("entries", number, width)


def test_the_specifications_own_example() -> None:
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(0, 1_234_067).entries_path == "tile/entries/x001/x234/067"


@pytest.mark.parametrize("size", SEALED_AT)
def test_a_reader_of_the_specification_reads_every_tree(size: int) -> None:
    leaves = [b"entry %d" % number for number in range(size)]
    files = sealed_files(leaves, (size,))
    (head,) = (content for path, content in files.items() if path.startswith("checkpoints/"))
    assert spec_read(lambda path: head if path == "checkpoint" else files[path]) == leaves


async def test_a_copy_has_its_newest_tree_head_where_the_specification_says(tmp_path: Path) -> None:
    leaves = [b"entry %d" % number for number in range(700)]
    store, copy = FileObjectStore(tmp_path / "objects"), tmp_path / "copy"
    for sizes in ((3,), (3, 257), (3, 257, 700)):
        for path, content in sealed_files(leaves, sizes).items():
            await store.put(f"logs/eu/{path}", _piece(content))
        await copy_log(store, "eu", copy)
        assert spec_read(lambda path: (copy / path).read_bytes()) == leaves[: sizes[-1]]
    assert {path.name for path in copy.iterdir()} == {"tile", "checkpoint", "checkpoints"}
    assert not list(copy.rglob(".*"))


async def _piece(content: bytes) -> AsyncIterator[bytes]:
    yield content
