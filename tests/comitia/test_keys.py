"""`comitia keys rotate` as an operator uses it: what its options ask for, and what it says of what was done."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from typer.testing import CliRunner

from comitia import keys
from comitia.cell_access import operator
from comitia.cli import app
from comitia.stack.state import StackState
from comitia.stack_settings import platform_settings
from domain.contracts.keys import RotatedKeys, RotateKeysInput
from integrations.keys.opening import open_keys
from integrations.keys.purposes import HASH_KEYS, KEK_PERSONAL, KEY_ENCRYPTION_KEYS, SHORT_LIVED_KEYS
from integrations.platform import IN_FLIGHT, KEYS_QUEUE
from integrations.postgres.personal_records import KEY_MADE_WITHIN_S
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec

BY_HAND = RotateKeysInput(
    purposes=KEY_ENCRYPTION_KEYS,
    cells=("eu", "us"),
    age_days=0,
    personal_purpose=KEK_PERSONAL,
    hash_age_days=0,
    token_age_days=0,
    actor=operator(),
)


@workflow.defn(name="RotateKeys")
class Rotating:
    """Keeps what it is asked for in place of the rotation; a key stays behind where there is no grace."""

    asked: ClassVar[list[RotateKeysInput]] = []

    @workflow.run
    async def run(self, request: RotateKeysInput) -> RotatedKeys:
        self.asked.append(request)
        failed = 0 if request.grace_days else 1
        return RotatedKeys(made=("kek/a/2",), destroyed=("kek/a/1",), rewrapped=3, failed=failed, voters=4)


@pytest_asyncio.fixture(loop_scope="session")
async def data(servers: StackState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """The folder of a stack whose rotations are kept.

    Their queue is one of their own: at the usual one tasks are for the newest build of those that other tests began.
    """
    queue = f"{KEYS_QUEUE}-{secrets.token_hex(4)}"
    monkeypatch.setattr(keys, "KEYS_QUEUE", queue)
    servers.model_copy(update={"folder": tmp_path, "supervisor_pid": 1}).write()
    settings = platform_settings(tmp_path)
    assert settings.platform_temporal is not None
    codec = EncryptionCodec(open_keys(settings, IN_FLIGHT), IN_FLIGHT)
    client = await connect(settings.platform_temporal, codec)
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=queue, workflows=[Rotating], workflow_runner=runner):
        yield tmp_path


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ((), {}),
        (("--only-rewrap",), {"age_days": 365_000}),  # nothing is as old
        (("--hashes",), {"hash_purposes": HASH_KEYS}),
        (("--tokens",), {"token_purposes": SHORT_LIVED_KEYS}),
        (("--at-once",), {"grace_days": 0, "settle_s": 2 * KEY_MADE_WITHIN_S}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_each_option_asks_for_what_it_says(data: Path, options: tuple[str, ...], asked: dict[str, Any]) -> None:
    command = ["keys", "rotate", *options, "--data", str(data)]
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert Rotating.asked.pop() == BY_HAND.model_copy(update=asked)
    failed = 1 if "--at-once" in options else 0
    assert done.exit_code == failed, done.output
    assert done.output.splitlines() == [
        "made kek/a/2",
        "destroyed kek/a/1",
        f"re-wrapped the keys of 3 surveys and 4 voters; {failed} could not be",
    ]


async def test_where_no_stack_is_nothing_is_rotated(tmp_path: Path) -> None:
    done = await asyncio.to_thread(CliRunner().invoke, app, ["keys", "rotate", "--data", str(tmp_path)])
    assert done.exit_code == 1
    assert not Rotating.asked
