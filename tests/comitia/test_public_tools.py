"""What the product seals is read by tools that are not ours: Tessera's `fsck`, and the libraries beneath it."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from nacl.signing import SigningKey
from temporalio.testing import ActivityEnvironment

from activities.audit_sealing import AuditSealingActivities
from activities.log_reading import LogReading
from comitia.log_copy import copy_log
from comitia.stack.built_tools import TLOG_FSCK, TLOG_PROOFS
from domain.audit_log import checkpoint_path, origin_of
from domain.checkpoints import verifier_key
from domain.contracts.audit import SealAuditLogInput
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import AUDIT_LOG, manage
from integrations.keys.signing import LogKeys
from integrations.objects.file_store import FileObjectStore
from tests.built_tools import need_tools
from tests.log_world import KEY, VERIFIER_KEY, sealed_files
from tests.tlog_tools import NotGoodError, continues, fsck, proves_entry
from tests.workflows.test_seal_audit_log import Database, Watch

SIZES = (5, 256, 300, 700)
PATHS_IN_FOLDERS = 1_000 * 256 + 700  # entries: from the thousandth tile on, a path has an element more
ORIGIN = origin_of("test", "eu")


@dataclass
class Sealed:
    """A log that was sealed and copied once at each size."""

    reading: LogReading
    entries: list[bytes]
    copies: dict[int, Path]
    verifier_key: str

    def head(self, size: int) -> Path:
        return self.copies[SIZES[-1]] / checkpoint_path(size)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    need_tools(TLOG_FSCK, TLOG_PROOFS)
    folder, database = tmp_path_factory.mktemp("sealed"), Database()
    objects = FileObjectStore(folder / "objects")
    kms = FileKms(folder / "keys", frozenset({AUDIT_LOG, manage(AUDIT_LOG)}))
    signer, environment, copies = LogKeys(kms, AUDIT_LOG), ActivityEnvironment(), dict[int, Path]()
    sealing = AuditSealingActivities({"eu": database}, objects, signer, Watch(), environment="test")
    for size in SIZES:
        database.write(size - len(database.rows))
        sequenced = await environment.run(sealing.sequence_audit_log, SealAuditLogInput(log="eu"))
        await environment.run(sealing.sign_audit_head, await environment.run(sealing.write_audit_tiles, sequenced))
        copies[size] = folder / f"copy-{size}"
        await copy_log(objects, "eu", copies[size])
    (key,) = await signer.public_keys()
    return Sealed(LogReading(objects, signer, "eu", ORIGIN), database.rows, copies, verifier_key(ORIGIN, key))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_public_tool_reads_every_file_of_every_copy(sealed: Sealed, size: int) -> None:
    found = fsck(sealed.copies[size], sealed.verifier_key)
    assert found == (size, (await sealed.reading.root(size)).hex())


@pytest.mark.parametrize(
    "path",
    [
        "checkpoint",
        "tile/0/000",
        "tile/0/002.p/188",
        "tile/1/000.p/2",
        "tile/entries/001",
        "tile/entries/002.p/188",
    ],
)
def test_a_byte_that_was_changed_in_any_of_them_is_seen(sealed: Sealed, tmp_path: Path, path: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(sealed.copies[700], copy)
    content = (copy / path).read_bytes()
    (copy / path).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(NotGoodError, match="fsck failed"):
        fsck(copy, sealed.verifier_key)
    (copy / path).unlink()
    with pytest.raises(NotGoodError, match="fsck failed"):
        fsck(copy, sealed.verifier_key)


def test_a_log_of_another_key_is_not_taken(sealed: Sealed) -> None:
    other = verifier_key(ORIGIN, bytes(SigningKey.generate().verify_key))
    with pytest.raises(NotGoodError, match="fsck failed"):
        fsck(sealed.copies[700], other)


async def test_paths_are_found_from_the_thousandth_tile_on(tmp_path: Path) -> None:
    need_tools(TLOG_FSCK)
    files = sealed_files([b"%d" % number for number in range(PATHS_IN_FOLDERS)], (PATHS_IN_FOLDERS,))
    assert {"tile/0/x001/001", "tile/0/x001/002.p/188", "tile/1/003.p/234", "tile/2/000.p/3"} < files.keys()
    for path, content in files.items():
        name = "checkpoint" if path.startswith("checkpoints/") else path
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    size, _ = await asyncio.to_thread(fsck, tmp_path / "copy", VERIFIER_KEY)
    assert size == PATHS_IN_FOLDERS


@pytest.mark.parametrize(("index", "size"), [(0, 5), (4, 5), (0, 256), (255, 700), (256, 300), (299, 300), (699, 700)])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_proof_is_good_to_public_libraries_for_its_entry_alone(
    sealed: Sealed, tmp_path: Path, index: int, size: int
) -> None:
    proved = await sealed.reading.prove(index, await sealed.reading.checkpoint(size))
    proof, entry, other = tmp_path / "proof", tmp_path / "entry", tmp_path / "other"
    proof.write_bytes(proved.proof.text)
    entry.write_bytes(proved.entry)
    other.write_bytes(sealed.entries[index - 1])
    assert proves_entry(sealed.verifier_key, proof, entry) == f"entry {index} of {size} in {ORIGIN}\n"
    assert proves_entry(sealed.verifier_key, proof, other) == ""
    assert proves_entry(verifier_key(ORIGIN, bytes(KEY.verify_key)), proof, entry) == ""
    proof.write_bytes(proved.proof.text.replace(b"\nindex %d\n" % index, b"\nindex %d\n" % (index ^ 1), 1))
    assert proves_entry(sealed.verifier_key, proof, entry) == ""


@pytest.mark.parametrize(("old", "new"), [(5, 256), (5, 700), (256, 300), (256, 700), (300, 700), (700, 700)])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_tree_continues_another_to_public_libraries(sealed: Sealed, old: int, new: int) -> None:
    hashes, key = await sealed.reading.consistency(old, new), sealed.verifier_key
    assert continues(key, sealed.head(old), sealed.head(new), hashes) == f"{new} of {ORIGIN} go on from {old}\n"
    assert continues(key, sealed.head(old), sealed.head(new), [*hashes, bytes(32)]) == ""
    if old < new:
        assert continues(key, sealed.head(new), sealed.head(old), hashes) == ""
        assert continues(key, sealed.head(old), sealed.head(new), hashes[1:]) == ""
