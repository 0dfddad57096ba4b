"""A log that anything was done to is not good, and the check that says so is named."""

import random
from collections.abc import Callable

import pytest
from nacl.signing import SigningKey

from domain.audit_log import bundle, entries_of
from domain.log_verification import checkpoint_sizes, verify_log
from domain.merkle import leaf_hash
from domain.merkle_tiles import GrowingTiles
from domain.verification import UnreadableError
from integrations.keys.signing import is_signed
from tests.log_world import KEYS, Files, leaf, sealed_files, tree_head

SIZES = (0, 1, 5, 256, 300, 512, 519, 600)
LEAVES = [leaf(number) for number in range(600)]
FILES = sealed_files(LEAVES, SIZES)
SMALL = sealed_files(LEAVES, (0, 1, 5, 256, 270))
SIGNATURE = "signature of the newest tree head"


def failing(files: dict[str, bytes]) -> set[str]:
    checks, _ = verify_log(Files(files), KEYS, is_signed)
    return {check.name for check in checks if not check.holds}


def said(files: dict[str, bytes], name: str) -> str:
    checks, _ = verify_log(Files(files), KEYS, is_signed)
    return next(check.detail for check in checks if check.name == name)


def with_entry(number: int, changed: bytes) -> dict[str, bytes]:
    """Return the files with an entry rewritten wherever it stands, and nothing else."""
    files = dict(FILES)
    for path, content in FILES.items():
        if path.startswith("tile/entries/"):
            files[path] = bundle([changed if found == LEAVES[number] else found for found in entries_of(content)])
    return files


def test_a_log_holds_and_says_how_much_it_has() -> None:
    checks, newest = verify_log(Files(FILES), KEYS, is_signed)
    assert [check.name for check in checks if not check.holds] == []
    assert len(checks) == 8
    assert newest is not None
    assert newest.size == 600
    assert checkpoint_sizes(Files(FILES)) == list(SIZES)


@pytest.mark.parametrize("sizes", [(0,), (1,), (256,), (257,), (5, 65)])
def test_logs_of_any_size_hold(sizes: tuple[int, ...]) -> None:
    assert failing(sealed_files(LEAVES, sizes)) == set()


def test_partial_tiles_that_were_filled_may_be_gone() -> None:
    kept = {path: content for path, content in FILES.items() if ".p/" not in path or path.endswith(".p/88")}
    kept |= {path: content for path, content in FILES.items() if path.startswith(("tile/1", "tile/2"))}
    assert failing(kept) == set()


def test_a_byte_changed_anywhere_fails_a_check() -> None:
    chosen = random.Random(7)
    tried = 0
    for path, content in SMALL.items():
        for at in {0, len(content) - 1, *(chosen.randrange(len(content)) for _ in range(3))}:
            changed = content[:at] + bytes([content[at] ^ 1 << chosen.randrange(8)]) + content[at + 1 :]
            assert failing({**SMALL, path: changed}), (path, at)
            tried += 1
    assert tried > 50


def test_a_file_that_is_gone_is_missed() -> None:
    needed = [path for path in FILES if ".p/" not in path and not path.startswith("checkpoints/")]
    needed += ["tile/0/002.p/88", "tile/entries/002.p/88", "tile/1/000.p/2"]
    for path in needed:
        assert failing({other: content for other, content in FILES.items() if other != path}), path


def test_an_entry_that_was_rewritten_is_named() -> None:
    files = with_entry(300, leaf(9_999))
    assert said(files, "entries hash to their tiles").startswith("entry 300 is not what tile/0/001 says (now votes.rec")


def test_an_entry_that_is_rewritten_with_its_tiles_breaks_the_signed_root() -> None:
    leaves = [*LEAVES[:300], leaf(9_999), *LEAVES[301:]]
    forged = sealed_files(leaves, SIZES)
    files = forged | {path: content for path, content in FILES.items() if path.startswith("checkpoints/")}
    assert failing(files) == {"root of the newest tree head", "earlier tree heads"}


def test_an_entry_that_is_rewritten_by_whoever_has_the_key_breaks_what_was_signed_before() -> None:
    leaves = [*LEAVES[:300], leaf(9_999), *LEAVES[301:]]
    forged = sealed_files(leaves, SIZES)
    heads = {path: content for path, content in FILES.items() if path.startswith("checkpoints/")}
    files = {**forged, **heads, "checkpoints/x000/x000/x000/600": forged["checkpoints/x000/x000/x000/600"]}
    assert failing(files) == {"earlier tree heads"}
    assert "x000/512" in said(files, "earlier tree heads")


def _another_key(tree: GrowingTiles) -> tuple[str, bytes]:
    return tree_head(tree, key=SigningKey(bytes(32)))


def _another_log(tree: GrowingTiles) -> tuple[str, bytes]:
    return tree_head(tree, origin="comitia/test/us")


@pytest.mark.parametrize("head", [_another_key, _another_log])
@pytest.mark.parametrize(("size", "name"), [(600, SIGNATURE), (512, "earlier tree heads")])
def test_a_tree_head_of_another_key_or_log_is_none(
    head: Callable[[GrowingTiles], tuple[str, bytes]], size: int, name: str
) -> None:
    tree = GrowingTiles()
    tree.extend(map(leaf_hash, LEAVES[:size]))
    assert failing(FILES | dict([head(tree)])) == {name}


def test_a_tree_head_under_another_size_is_none() -> None:
    newest, earlier = "checkpoints/x000/x000/x000/600", "checkpoints/x000/x000/x000/512"
    assert failing({**FILES, "checkpoints/x000/x000/x000/700": FILES[newest]}) == {SIGNATURE}
    assert failing({**FILES, earlier: FILES["checkpoints/x000/x000/x000/300"]}) == {"earlier tree heads"}


def test_kinds_of_a_later_release_are_counted_and_no_fault() -> None:
    files = sealed_files([*LEAVES[:3], leaf(7, "something.later")], [4])
    assert failing(files) == set()
    assert "1 of kinds not known here" in said(files, "entries in the one form")


def test_an_entry_in_another_form_is_told() -> None:
    files = sealed_files([LEAVES[0], b'{"at": "x"}'], [2])
    assert failing(files) == {"entries in the one form"}


@pytest.mark.parametrize(
    ("body", "is_good"),
    [
        (b'{"a":1,"b":"\xc3\xa9\\u0007\\n"}', True),
        (b'{"a":1e+16,"b":0.5}', True),
        (b'{"b":1,"a":1}', False),
        (b'{"a":1, "b":1}', False),
        (b'{"a":1,"a":1}', False),
        (b'{"a":"\\u00e9"}', False),
        (b'{"a":1.0e0}', False),
        (b'{"a":NaN}', False),
        (b"{" * 3000, False),
    ],
)
def test_there_is_one_form(body: bytes, *, is_good: bool) -> None:
    entry = b'{"at":"x","body":' + body + b',"id":"y","kind":"votes.recorded"}'
    assert failing(sealed_files([entry], [1])) == (set() if is_good else {"entries in the one form"})


def test_what_is_no_log_is_told() -> None:
    with pytest.raises(UnreadableError):
        verify_log(Files({"tile/0/000": b""}), KEYS, is_signed)
