"""Every queue of docs/load.md is seen as the page says, in the processes that it names."""

import re
from fnmatch import fnmatchcase

import httpx

from tests.end_to_end.house import House, eventually
from tests.load_page import queues


async def shown(house: House) -> dict[str, str]:
    """Return what each process shows to whoever scrapes it."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return {name: (await client.get(f"{url}/metrics")).text for name, url in house.supervisor.urls.items()}


async def test_every_queue_is_seen_where_the_page_says(house: House) -> None:
    found = await shown(house)
    missing = []
    for queue in queues():
        processes = [name for name in found if any(fnmatchcase(name, pattern) for pattern in queue.processes)]
        assert bool(processes) is bool(queue.processes), queue
        missing += [
            (queue.name, metric, name)
            for name in processes
            for metric in queue.metrics
            if f"# TYPE {metric} " not in found[name]
        ]
    assert not missing


async def test_every_pool_is_watched_where_it_is_opened(house: House) -> None:
    """By its place and role; a cell's pool of votes is read, and nobody waits in a house where nothing goes on."""
    for name, text in (await shown(house)).items():
        assert "db_pool_waiting{" in text, name

    async def nobody_waits() -> bool:
        text = (await shown(house))["api-votes"]
        return bool(re.search(r'^db_pool_waiting\{database="eu/comitia_voting"\} 0\.0$', text, re.MULTILINE))

    await eventually(nobody_waits, what="nobody waits for a connection")
