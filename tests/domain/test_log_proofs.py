"""The proof of one entry as a file: any byte of it, or of the entry, decides."""

import pytest

from domain.log_proofs import EntryProof, read_proof, verify_entry
from domain.merkle import leaf_hash
from domain.merkle_proofs import hash_of, inclusion_spans
from domain.merkle_tiles import GrowingTiles
from domain.verification import UnreadableError
from integrations.keys.signing import is_signed
from tests.log_world import KEYS, leaf, tree_head

LEAVES = [leaf(number) for number in range(300)]


def proof_of(index: int, size: int = 300) -> EntryProof:
    tree = GrowingTiles()
    tree.extend(map(leaf_hash, LEAVES[:size]))
    tiles = dict(tree.take_complete() + tree.partial())
    hashes = tuple(hash_of(span, size, tiles) for span in inclusion_spans(index, size))
    return EntryProof(index, hashes, tree_head(tree)[1])


def failing(entry: bytes, content: bytes) -> list[str]:
    return [check.name for check in verify_entry(entry, read_proof(content), KEYS, is_signed) if not check.holds]


@pytest.mark.parametrize("index", [0, 255, 256, 299])
def test_an_entry_is_proved_and_no_other(index: int) -> None:
    content = proof_of(index).text
    assert content.startswith(f"c2sp.org/tlog-proof@v1\nindex {index}\n".encode())
    assert failing(LEAVES[index], content) == []
    assert failing(LEAVES[index - 1], content) == ["the entry is in the tree"]


def test_the_only_entry_needs_no_hash() -> None:
    proof = proof_of(0, 1)
    assert proof.hashes == ()
    assert failing(LEAVES[0], proof.text) == []


def test_a_change_anywhere_is_noticed() -> None:
    content = proof_of(7).text
    for at in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            try:
                assert failing(LEAVES[7], bytes(changed)), (at, bit)
            except UnreadableError:
                continue


def test_base64_is_spelled_in_one_way() -> None:
    content = proof_of(7).text
    line = content.split(b"\n")[2]
    last = bytes([line[-2] + 1])  # of the 4 bits of a last character two are nobody's: it is one of every fourth
    for other in (line[:-2] + last + b"=", line[:-1], line + b"=", b" " + line):
        with pytest.raises(UnreadableError):
            read_proof(content.replace(line, other))


@pytest.mark.parametrize("content", [b"", b"\n\n", proof_of(7).text.replace(b"index 7", b"index 07"), b"\xff\n\n"])
def test_what_is_none_is_told(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_proof(content)


def test_a_hash_that_is_too_short_is_none() -> None:
    proof = proof_of(5)
    with pytest.raises(UnreadableError):
        read_proof(EntryProof(5, (proof.hashes[0][:31], *proof.hashes[1:]), proof.note).text)
