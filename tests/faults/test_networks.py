"""The ways that `make faults` cuts are those that processes use: one that is not known is never cut."""

from contextlib import suppress

import psutil

from tests.end_to_end.house import House, eventually
from tests.faults.networks import PAIRS
from tests.faults.whole_stack import SERVERS

_SEEN_WITHIN_S = 30.0
# Used only where a process of another kind has died, a stream is open, a survey ends or is exported.
RARE = {
    "workers-voting": {"kafka"},
    "workers-reconciliation": {"kafka", "postgres", "redis"},
    "workers-certification": {"postgres"},
    "workers-platform": {"redis"},  # an export reads the totals
    "api-streams": {"postgres"},
    "api-webhooks": {"temporal", "redis"},  # connected at the start, and after a loss once a vendor tells something
    "api-support": {"temporal", "redis"},  # the same, once a member of staff looks for something
    "api-compliance": {"postgres", "redis"},  # who reads it is known by a token
}


def connected(house: House, process: str, ports: dict[int, str]) -> set[str]:
    """Return the servers that a process has a connection to."""
    found = psutil.Process(house.supervisor.pids[process]).net_connections(kind="tcp")
    return {ports[each.raddr.port] for each in found if each.raddr and each.raddr.port in ports}


async def test_every_way_that_is_used_can_be_cut(house: House) -> None:
    ports = {port: name for name, port in house.state.ports.items() if name in SERVERS}  # both cells in one PostgreSQL
    seen: dict[str, set[str]] = {process: set() for process in house.supervisor.processes}
    wanted = {process: set(PAIRS[process]) & set(ports.values()) for process in seen}
    usual = {process: wanted[process] - RARE.get(process, set()) for process in seen}

    async def all_used() -> bool:
        survey = await house.open_survey()  # whatever connects on demand is asked for something
        _, access = await house.voter()
        assert (await house.ask_to_vote(survey.id, access)).status_code == 201
        assert (await house.cast(survey, house.token(survey))).status_code in {201, 202}
        await house.results(survey)
        for process in seen:
            seen[process] |= connected(house, process, ports)
        return all(seen[process] >= usual[process] for process in seen)

    with suppress(AssertionError):  # the comparisons below name the ways
        await eventually(all_used, within_s=_SEEN_WITHIN_S)
    unknown = {process: seen[process] - wanted[process] for process in seen}
    unused = {process: usual[process] - seen[process] for process in seen}
    assert (set().union(*unknown.values()), set().union(*unused.values())) == (set(), set()), (unknown, unused)
