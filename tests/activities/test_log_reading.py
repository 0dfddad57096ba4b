"""A sealed log is read from its files: which tree head an entry came under first, and that it is there."""

from pathlib import Path

import pytest

from activities.log_reading import LogReading
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


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> LogReading:
    folder = tmp_path_factory.mktemp("objects")
    for path, content in sealed_files(LEAVES, SIZES).items():
        (folder / "logs/eu" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "logs/eu" / path).write_bytes(content)
    return LogReading(FileObjectStore(folder), PublicKeys(), "eu", ORIGIN)


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
