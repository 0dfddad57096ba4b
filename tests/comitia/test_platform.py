import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from comitia.audit import compare, seal_log, verifier_keys
from comitia.log_copy import LogFolder
from comitia.stack.applications import APPLICATIONS
from comitia.stack.ports import HOST
from comitia.stack.probes import http_ok
from comitia.stack.state import CATALOGUE, CELLS
from domain.checkpoints import read_verifier_keys
from domain.log_verification import verify_log
from integrations.keys.signing import is_signed
from integrations.postgres.roles import AUDIT
from integrations.settings import Environment
from tests.end_to_end.house import House

READY_WITHIN_S = 30.0
SEALED_WITHIN = timedelta(seconds=60)


async def test_every_service_and_worker_comes_up(house: House) -> None:
    assert house.supervisor.pids.keys() == {application.name for application in APPLICATIONS}
    for url in house.supervisor.urls.values():
        async with asyncio.timeout(READY_WITHIN_S):  # a busy machine makes a service miss a look at what it needs
            while not await http_ok(HOST, int(url.rpartition(":")[2]), "/readyz"):
                await asyncio.sleep(0.2)


async def test_every_service_documents_itself(house: House) -> None:
    for application in APPLICATIONS:
        if application.package == "api":
            assert await http_ok(HOST, int(house.supervisor.url(application.service).rpartition(":")[2]), "/docs")


async def test_every_audit_log_is_sealed_and_anybody_can_check_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = house.state.settings_for(AUDIT, environment=Environment.TEST)
    monkeypatch.setattr("comitia.audit.settings_of", lambda *_: settings)
    for log in (*CELLS, CATALOGUE):
        sealed = await seal_log(settings, log, within=SEALED_WITHIN)
        copy = LogFolder(house.state.objects_folder / "logs" / log)
        keys = read_verifier_keys(await verifier_keys(settings))
        checks, newest = await asyncio.to_thread(verify_log, copy, keys, is_signed)
        assert newest is not None
        assert newest.size >= sealed.size
        checks += await compare(copy, sealed.size, log, Path())
        assert [check for check in checks if not check.holds] == []
