"""Signed tree heads as C2SP has them: checkpoints, which are signed notes, and the keys that check them.

Sources: C2SP tlog-checkpoint and signed-note; public tools read and check what is written here.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

IsSigned = Callable[[bytes, bytes, bytes], bool]  # message, signature, public key
Keys = Mapping[tuple[str, bytes], bytes]  # public keys by name and key id

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_HASH_BYTES = 32
_NOTE_MAX = 64 * 1024
_NAME = re.compile(r"[^\s+]{1,256}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class NoCheckpointError(ValueError):
    """This is no checkpoint that a known key has signed."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: whose log, how many entries, and the root over them (32 bytes)."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> bytes:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n".encode()


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the four bytes that name an Ed25519 key in a note."""
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:_KEY_ID_BYTES]


def signed_note(text: bytes, name: str, public_key: bytes, signature: bytes) -> bytes:
    """Return a note with one signature (64 bytes) of `text`."""
    value = b64encode(key_id(name, public_key) + signature).decode()
    return text + f"\n\N{EM DASH} {name} {value}\n".encode()


def verifier_key(name: str, public_key: bytes) -> str:
    """Return a public key in one line of text, `name+id+key`, as tools for notes take it."""
    return f"{name}+{key_id(name, public_key).hex()}+{b64encode(_ED25519 + public_key).decode()}"


def read_verifier_keys(lines: Iterable[str]) -> dict[tuple[str, bytes], bytes]:
    """Return the keys of such lines; empty ones are skipped.

    Raises:
        NoCheckpointError: a line is no Ed25519 key, or its id is another key's.
    """
    keys = {}
    for line in filter(None, map(str.strip, lines)):
        name, _, rest = line.partition("+")
        told, _, encoded = rest.partition("+")
        content = _decoded(encoded)
        public_key = content[1:]
        usable = content[:1] == _ED25519 and len(public_key) == _HASH_BYTES and _NAME.fullmatch(name)
        if not usable or told != key_id(name, public_key).hex():
            raise NoCheckpointError("not a key")
        keys[name, key_id(name, public_key)] = public_key
    return keys


def open_checkpoint(note: bytes, keys: Keys, is_signed: IsSigned) -> Checkpoint:
    """Return the checkpoint in a note that a known key of its origin has signed; other signatures are nobody's here.

    Raises:
        NoCheckpointError: it is none, no such key has signed it, or one that is named has not.
    """
    text, signatures = _parts(note)
    found = _read(text)
    if found.text != text:
        raise NoCheckpointError("not in the one form")
    is_known = False
    for name, named_key, signature in signatures:
        public_key = keys.get((name, named_key))
        if name != found.origin or public_key is None:
            continue
        if not is_signed(text, signature, public_key):
            raise NoCheckpointError("the signature is not of this text")
        is_known = True
    if not is_known:
        raise NoCheckpointError("not signed by a key that was given")
    return found


def _decoded(text: str) -> bytes:
    """Return what is in base64, in its one form: decoders do not look at the bits that are left over."""
    try:
        value = b64decode(text, validate=True)
    except ValueError as error:
        raise NoCheckpointError("not base64") from error
    if b64encode(value).decode() != text:
        raise NoCheckpointError("not base64 in the one form")
    return value


def _parts(note: bytes) -> tuple[bytes, list[tuple[str, bytes, bytes]]]:
    try:
        text, separator, tail = note.decode().rpartition("\n\n")
    except UnicodeDecodeError as error:
        raise NoCheckpointError("not a note") from error
    if len(note) > _NOTE_MAX or not separator or not tail.endswith("\n"):
        raise NoCheckpointError("not a note")
    signatures = []
    for line in tail.removesuffix("\n").split("\n"):
        mark, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        value = _decoded(encoded)
        if mark != "\N{EM DASH}" or not _NAME.fullmatch(name) or len(value) <= _KEY_ID_BYTES:
            raise NoCheckpointError("not a signature")
        signatures.append((name, value[:_KEY_ID_BYTES], value[_KEY_ID_BYTES:]))
    return f"{text}\n".encode(), signatures


def _read(text: bytes) -> Checkpoint:
    origin, size, root, *more = text.decode().split("\n")[:-1] + [""] * 3
    digest = _decoded(root)
    if not origin or not _SIZE.fullmatch(size) or len(digest) != _HASH_BYTES or any(more):
        raise NoCheckpointError("not a checkpoint")
    return Checkpoint(origin, int(size), digest)
