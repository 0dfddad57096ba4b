"""A real object store that speaks S3, and whoever else may write to it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import BotoCoreError
from pydantic import SecretStr

from comitia.stack.built_tools import VERSITYGW, needed_tool
from comitia.stack.ports import HOST, free_port
from comitia.stack.process import ManagedProcess
from integrations.aws_clients import aws_client
from integrations.vendor_settings import AwsSettings
from tests.built_tools import need_tools

UP_WITHIN_S = 20


@dataclass
class ObjectServer:
    """A running store: how it is reached, and a client of it."""

    settings: AwsSettings
    client: Any
    process: ManagedProcess

    async def did(self, call: str, **fields: Any) -> Any:
        return await asyncio.to_thread(getattr(self.client, call), **fields)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def object_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ObjectServer]:
    need_tools(VERSITYGW)
    folder: Path = tmp_path_factory.mktemp("objects")
    for name in ("data", "versions"):
        (folder / name).mkdir()
    port, access, secret = free_port(()), "tests", secrets.token_hex(16)
    command = (
        str(needed_tool(VERSITYGW)),
        *("--access", access, "--secret", secret, "--port", f"{HOST}:{port}", "--quiet"),
        *("posix", "--versioning-dir", str(folder / "versions"), str(folder / "data")),
    )
    process = ManagedProcess("versitygw", command, folder / "versitygw.log")
    await process.start()
    settings = AwsSettings(
        endpoint_url=f"http://{HOST}:{port}", access_key=SecretStr(access), secret_key=SecretStr(secret)
    )
    client = aws_client("s3", settings, read_timeout_s=20.0)
    try:
        async with asyncio.timeout(UP_WITHIN_S):
            while True:
                try:
                    await asyncio.to_thread(client.list_buckets)
                    break
                except BotoCoreError:
                    await asyncio.sleep(0.05)
        yield ObjectServer(settings, client, process)
    finally:
        await process.stop()
