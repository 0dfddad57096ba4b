"""What is signed of a log: a tree that its tiles give, and that continues what was signed before, whoever asks."""

import shutil
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from domain.contracts.audit import AuditTreeHead, SealAuditLogInput
from domain.errors import ErrorCode
from domain.log_verification import checkpoint_sizes
from domain.merkle import leaf_hash
from domain.merkle_tiles import GrowingTiles
from tests.log_world import leaf, sealed_files
from tests.workflows.test_seal_audit_log import Logbook


@pytest.fixture
def book(tmp_path: Path) -> Logbook:
    return Logbook(tmp_path, cast("Any", None))


async def written(book: Logbook) -> AuditTreeHead:
    """Give every entry its place and its tile; nothing is signed."""
    environment, sealing = ActivityEnvironment(), book.sealing()
    sequenced = await environment.run(sealing.sequence_audit_log, SealAuditLogInput(log="eu"))
    return await environment.run(sealing.write_audit_tiles, sequenced)


async def sign(book: Logbook, head: AuditTreeHead) -> AuditTreeHead:
    return await ActivityEnvironment().run(book.sealing().sign_audit_head, head)


async def refused(book: Logbook, head: AuditTreeHead) -> str:
    with pytest.raises(ApplicationError) as failed:
        await sign(book, head)
    assert failed.value.type == ErrorCode.AUDIT_LOG_CONTRADICTED
    return failed.value.message


async def test_another_root_than_that_of_the_tiles_is_not_signed(book: Logbook) -> None:
    book.database.write(5)
    head = await written(book)
    planted = head.model_copy(update={"root": bytes(32)})
    assert await refused(book, planted) == "the tiles of 5 entries have another root"
    assert checkpoint_sizes(book.copy) == []
    assert (await sign(book, head)).is_signed
    assert checkpoint_sizes(book.copy) == [5]


async def test_a_tree_that_does_not_continue_what_is_signed_is_not_signed(book: Logbook) -> None:
    book.database.write(5)
    await sign(book, await written(book))
    log = book.folder / "objects/logs/eu"
    shutil.rmtree(log / "tile")
    leaves = [leaf(number) for number in range(100, 106)]
    for path, content in sealed_files(leaves, (6,)).items():
        if path.startswith("tile/"):
            (log / path).parent.mkdir(parents=True, exist_ok=True)
            (log / path).write_bytes(content)
    tree = GrowingTiles()
    tree.extend(map(leaf_hash, leaves))
    said = await refused(book, AuditTreeHead(log="eu", size=6, root=tree.root()))
    assert said == "6 entries do not continue the 5 that are signed"
    assert checkpoint_sizes(book.copy) == [5]
