from comitia.stack.applications import APPLICATIONS
from comitia.stack.ports import HOST
from comitia.stack.probes import http_ok
from comitia.stack.supervisor import Supervisor


async def test_every_service_and_worker_comes_up(platform: Supervisor) -> None:
    assert platform.pids.keys() == {application.name for application in APPLICATIONS}
    for url in platform.urls.values():
        assert await http_ok(HOST, int(url.rpartition(":")[2]), "/readyz")


async def test_every_service_documents_itself(platform: Supervisor) -> None:
    for application in APPLICATIONS:
        if application.package == "api":
            assert await http_ok(HOST, int(platform.url(application.service).rpartition(":")[2]), "/docs")
