"""Tree heads as notes that other tools read, and notes that are none."""

import pytest
from nacl.signing import SigningKey

from domain.checkpoints import (
    Checkpoint,
    NoCheckpointError,
    key_id,
    open_checkpoint,
    read_verifier_keys,
    signed_note,
    verifier_key,
)
from integrations.keys.signing import is_signed

KEY = SigningKey(bytes(range(32)))
PUBLIC = bytes(KEY.verify_key)
HEAD = Checkpoint("comitia/test/eu", 20_852_163, bytes(range(32)))
KEYS = {(HEAD.origin, key_id(HEAD.origin, PUBLIC)): PUBLIC}
# Of the Go checksum database, and of the documentation of its notes: made by others.
GO = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def note(head: Checkpoint = HEAD, name: str = HEAD.origin, key: SigningKey = KEY) -> bytes:
    return signed_note(head.text, name, bytes(key.verify_key), key.sign(head.text).signature)


def opened(content: bytes) -> Checkpoint:
    return open_checkpoint(content, KEYS, is_signed)


def test_a_tree_head_comes_back_as_it_was_signed() -> None:
    lines = note().decode().split("\n")
    assert lines[:4] == ["comitia/test/eu", "20852163", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", ""]
    assert lines[4].startswith("\N{EM DASH} comitia/test/eu ")
    assert lines[5:] == [""]
    assert opened(note()) == HEAD


def test_keys_are_written_as_other_tools_have_them() -> None:
    ((name, ident),) = read_verifier_keys([GO])
    assert (name, ident.hex()) == ("sum.golang.org", "033de0ae")
    keys = read_verifier_keys([GO, "", f"  {PETER}\n"])
    assert [verifier_key(name, key) for (name, _), key in keys.items()] == [GO, PETER]


def test_a_change_anywhere_is_noticed() -> None:
    content = note()
    for at in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            with pytest.raises(NoCheckpointError):
                opened(bytes(changed))


def test_base64_is_spelled_in_one_way() -> None:
    root, line = note().split(b"\n")[2], note().split(b"\n")[4]
    assert root.endswith(b"8=")  # the two bits behind the last byte are nobody's
    for other in (root[:-2] + b"9=", root[:-1], root + b"=", root + b"\r", root.replace(b"A", b"A ", 1)):
        with pytest.raises(NoCheckpointError, match="base64"):
            opened(note().replace(root, other))
    for other in (line + b"=", line + b" ", line[:-1]):
        with pytest.raises(NoCheckpointError):
            opened(note().replace(line, other))
    with pytest.raises(NoCheckpointError):
        read_verifier_keys([GO + "="])


def test_signatures_of_others_stand_beside_ours() -> None:
    other = SigningKey(bytes(32))
    witness = signed_note(HEAD.text, "witness.example", bytes(other.verify_key), other.sign(HEAD.text).signature)
    both = note() + witness[len(HEAD.text) + 1 :]
    assert opened(both) == HEAD
    with pytest.raises(NoCheckpointError, match="not signed"):
        opened(witness)
    with pytest.raises(NoCheckpointError, match="not signed"):
        opened(note(name="comitia/test/us"))  # our key, by the name of another log
    with pytest.raises(NoCheckpointError, match="not signed"):
        opened(note(key=other))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\xff\n\n",
        HEAD.text,
        HEAD.text + b"\n",
        note() + b"\n",
        note(Checkpoint("comitia/test/eu", 7, bytes(31))),
        note().replace(b"\n20852163\n", b"\n020852163\n"),
        note().replace(b"\n20852163\n", b"\n-1\n"),
    ],
)
def test_what_is_none_is_told(content: bytes) -> None:
    with pytest.raises(NoCheckpointError):
        opened(content)


@pytest.mark.parametrize(
    "line", ["x", "a+b+c", GO.replace("033de0ae", "033de0af"), GO.replace("sum", "sun"), PETER[:-4], PETER + "AAAA"]
)
def test_what_is_no_key_is_told(line: str) -> None:
    with pytest.raises(NoCheckpointError):
        read_verifier_keys([line])
