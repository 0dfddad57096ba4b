"""`comitia demo identity` on a stack of its own, as a newcomer runs it."""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import pytest

from comitia.stack import postgres
from comitia.stack.state import read_state

pytestmark = pytest.mark.long

WITHIN_S = 400


async def test_a_person_goes_all_the_way_past_vendors_that_fail() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMITIA_")}
    with tempfile.TemporaryDirectory(prefix="comitia-identity-") as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "comitia.cli",
            "demo",
            "identity",
            "--free-ports",
            "--data",
            folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )
        async with asyncio.timeout(WITHIN_S):
            output, _ = await process.communicate()
        said = output.decode()
        state = read_state(Path(folder))
        assert state is not None
        postgres.forget(state.stack_id)
    assert process.returncode == 0, said
    for sign in (
        "401 webhook_invalid",
        "registration: active",
        "refused (already_registered)",
        "login: CHALLENGE, by totp",
        "a second vote: 4",
        "account deleted: completed",
        "with the new account: 4",
        "as it must",
    ):
        assert sign in said, said
