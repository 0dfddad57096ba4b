"""A sealed log is read from its files: which tree head an entry came under first, and that it is there."""

from pathlib import Path

import pytest

from activities.log_reading import LogReading
from domain.audit_log import checkpoint_path
from domain.errors import DomainError, ErrorCode
from domain.log_proofs import verify_entry
from integrations.keys.signing import is_signed
from integrations.objects.file_store import FileObjectStore
from tests.log_world import KEYS, ORIGIN, PUBLIC, leaf, sealed_files

SIZES = (1, 5, 999, 1000, 1001, 2500)
LEAVES = [leaf(number) for number in range(SIZES[-1])]


class PublicKeys:
    """Implements `LogSigner` as far as reading goes."""

    async def sign(self, message: bytes) -> tuple[bytes, bytes]:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE)

    async def public_keys(self) -> list[bytes]:
        return [PUBLIC]

    def is_signed(self, message: bytes, signature: bytes, public_key: bytes) -> bool:
        return is_signed(message, signature, public_key)


def read_from(folder: Path, files: dict[str, bytes]) -> LogReading:
    """Return a log whose store has these files."""
    for path, content in files.items():
        (folder / "logs/eu" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "logs/eu" / path).write_bytes(content)
    return LogReading(FileObjectStore(folder), PublicKeys(), "eu", ORIGIN)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> LogReading:
    return read_from(tmp_path_factory.mktemp("objects"), sealed_files(LEAVES, SIZES))


@pytest.mark.parametrize(
    ("index", "size"),
    [(0, 1), (1, 5), (4, 5), (5, 999), (998, 999), (999, 1000), (1000, 1001), (1001, 2500), (2499, 2500)],
)
async def test_the_first_tree_head_over_an_entry_is_found(reading: LogReading, index: int, size: int) -> None:
    head = await reading.first_over(index)
    assert head is not None
    assert head.size == size
    proved = await reading.prove(index, head)
    assert proved.entry == LEAVES[index]
    assert all(check.holds for check in verify_entry(proved.entry, proved.proof, KEYS, is_signed))


@pytest.mark.parametrize("index", [2500, 2999, 10**6, 10**11])
async def test_what_is_not_sealed_has_none(reading: LogReading, index: int) -> None:
    assert await reading.first_over(index) is None


async def test_a_log_of_which_nothing_is_sealed_has_none(tmp_path: Path) -> None:
    assert await LogReading(FileObjectStore(tmp_path), PublicKeys(), "us", "comitia/test/us").first_over(0) is None


async def test_a_tree_head_in_the_place_of_another_is_a_fault(tmp_path: Path) -> None:
    files = sealed_files(LEAVES, (5, 10))
    reading = read_from(tmp_path, {**files, checkpoint_path(10): files[checkpoint_path(5)]})
    assert (await reading.checkpoint(5)).size == 5
    with pytest.raises(DomainError, match="of another log or size") as refused:
        await reading.newest()
    assert refused.value.code is ErrorCode.AUDIT_LOG_CONTRADICTED


async def test_entries_that_are_not_those_of_their_hashes_are_a_fault(tmp_path: Path) -> None:
    files = sealed_files(LEAVES, (5,))
    (path,) = [path for path in files if "/entries/" in path]
    assert await read_from(tmp_path / "good", files).entries(0, 5) == LEAVES[:5]
    changed = files[path].replace(b'"participations":3', b'"participations":4')
    assert changed != files[path]
    with pytest.raises(DomainError, match="not those of its hashes") as refused:
        await read_from(tmp_path / "bad", {**files, path: changed}).entries(0, 5)
    assert refused.value.code is ErrorCode.AUDIT_LOG_CONTRADICTED
