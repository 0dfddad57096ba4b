"""A log that was cut short, or written anew by whoever has its key, does not continue what somebody has kept of it."""

from collections.abc import Sequence

import pytest
from nacl.signing import SigningKey

from domain.checkpoints import key_id
from domain.log_verification import verify_log
from domain.merkle_tiles import GrowingTiles
from integrations.keys.signing import is_signed
from tests.log_world import KEYS, Files, leaf, sealed_files, tree_head

LEAVES = [leaf(number) for number in range(700)]
LATER = sealed_files(LEAVES, (0, 5, 300, 512, 600))
NAME = "tree heads that were kept elsewhere"


def head(files: dict[str, bytes], size: int) -> bytes:
    return files[f"checkpoints/x000/x000/x000/{size:03d}"]


def failing(files: dict[str, bytes], kept: Sequence[bytes]) -> list[tuple[str, str]]:
    checks, newest = verify_log(Files(files), KEYS, is_signed, kept)
    assert newest is not None
    assert (NAME in {check.name for check in checks}) == bool(kept)
    return [(check.name, check.detail) for check in checks if not check.holds]


def without_heads(files: dict[str, bytes], *sizes: int) -> dict[str, bytes]:
    gone = {f"checkpoints/x000/x000/x000/{size:03d}" for size in sizes}
    return {path: content for path, content in files.items() if path not in gone}


@pytest.mark.parametrize("kept", [(), (0,), (5,), (300, 5, 600, 300), (512,), (600,)])
def test_a_log_continues_each_tree_head_that_was_kept(kept: Sequence[int]) -> None:
    assert failing(without_heads(LATER, 5, 300), [head(LATER, size) for size in kept]) == []


def test_a_log_that_was_cut_short_is_seen_by_a_later_tree_head_alone() -> None:
    shorter = sealed_files(LEAVES, (5, 300))
    assert failing(shorter, ()) == []
    assert failing(shorter, [head(LATER, 600)]) == [(NAME, "number 1 is of 600 entries, and the log has fewer")]


@pytest.mark.parametrize("changed", [3, 299])
def test_a_log_that_was_written_anew_is_seen_by_an_earlier_tree_head_alone(changed: int) -> None:
    leaves = [*LEAVES[:changed], leaf(10_000), *LEAVES[changed + 1 :]]
    anew = sealed_files(leaves, (600,))
    assert failing(anew, ()) == []
    assert failing(anew, [head(LATER, 300)]) == [(NAME, "number 1: another tree than that of the first 300 entries")]


def test_a_tree_head_that_nobody_of_the_log_signed_is_none() -> None:
    forged = head(LATER, 300).replace(b"\n300\n", b"\n301\n")
    assert failing(LATER, [forged]) == [(NAME, "number 1: the signature is not of this text")]
    assert failing(LATER, [b""]) == [(NAME, "number 1: not a note")]


def test_a_tree_head_of_another_log_is_none_of_this() -> None:
    key = SigningKey(bytes(32))
    public = bytes(key.verify_key)
    _, note = tree_head(GrowingTiles(), key, "comitia/test/us")
    keys = {**KEYS, ("comitia/test/us", key_id("comitia/test/us", public)): public}
    checks, _ = verify_log(Files(LATER), keys, is_signed, [note])
    assert [(check.name, check.detail) for check in checks if not check.holds] == [
        (NAME, "number 1 is of another log: comitia/test/us")
    ]


def test_what_a_copy_calls_its_newest_tree_head_is_of_the_same_tree() -> None:
    anew = sealed_files([leaf(10_000), *LEAVES[1:]], (300, 600))
    for size in (300, 600):  # behind what the copy has, where it was cut off, and no other tree's
        assert failing(LATER | {"checkpoint": head(LATER, size)}, ()) == []
        told = f"checkpoint: another tree than that of the first {size} entries"
        assert failing(LATER | {"checkpoint": head(anew, size)}, ()) == [("earlier tree heads", told)]
