import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from comitia.audit import compare, seal_log, verifier_keys
from comitia.log_copy import LogFolder
from comitia.stack.applications import APPLICATIONS
from comitia.stack.ports import HOST
from comitia.stack.probes import http_ok
from comitia.stack.state import CATALOGUE, CELLS, StackState
from comitia.stack.supervisor import Supervisor
from domain.checkpoints import read_verifier_keys
from domain.log_verification import verify_log
from integrations.keys.signing import is_signed
from integrations.postgres.roles import AUDIT
from tests.conftest import SettingsFor

READY_WITHIN_S = 30.0
SEALED_WITHIN = timedelta(seconds=60)


async def test_every_service_and_worker_comes_up(platform: Supervisor) -> None:
    assert platform.pids.keys() == {application.name for application in APPLICATIONS}
    for url in platform.urls.values():
        async with asyncio.timeout(READY_WITHIN_S):  # a busy machine makes a service miss a look at what it needs
            while not await http_ok(HOST, int(url.rpartition(":")[2]), "/readyz"):
                await asyncio.sleep(0.2)


async def test_every_service_documents_itself(platform: Supervisor) -> None:
    for application in APPLICATIONS:
        if application.package == "api":
            assert await http_ok(HOST, int(platform.url(application.service).rpartition(":")[2]), "/docs")


@pytest.mark.usefixtures("platform")
async def test_every_audit_log_is_sealed_and_anybody_can_check_it(
    servers: StackState, settings_for: SettingsFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(AUDIT)
    monkeypatch.setattr("comitia.audit.settings_of", lambda *_: settings)
    for log in (*CELLS, CATALOGUE):
        sealed = await seal_log(settings, log, within=SEALED_WITHIN)
        copy = LogFolder(servers.objects_folder / "logs" / log)
        keys = read_verifier_keys(await verifier_keys(settings))
        checks, newest = await asyncio.to_thread(verify_log, copy, keys, is_signed)
        assert newest is not None
        assert newest.size >= sealed.size
        checks += await compare(copy, sealed.size, log, Path())
        assert [check for check in checks if not check.holds] == []
