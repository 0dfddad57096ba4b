"""The limits of a process, from its start to its stop, in the cells' real Redis."""

import asyncio
import secrets
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from api.http.limits_opening import open_limits
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import LIMITS
from integrations.redis.connection import open_redis
from tests.api.http.wire import telemetry_for_tests
from tests.conftest import SettingsFor


async def test_a_process_has_a_share_until_it_stops_and_no_longer(settings_for: SettingsFor, tmp_path: Path) -> None:
    settings, keys = settings_for(), FileKms(tmp_path, frozenset({LIMITS}))
    telemetry = replace(telemetry_for_tests(), service=f"t{secrets.token_hex(4)}")
    async with open_redis(settings.cells["eu"].redis) as redis:
        shares = f"eu:limits:processes:{telemetry.service}"
        async with AsyncExitStack() as lifetime:
            await open_limits(settings, keys, lifetime, telemetry)
            async with asyncio.timeout(10):
                while not await redis.zcard(shares):
                    await asyncio.sleep(0.05)
        assert not await redis.zcard(shares)
