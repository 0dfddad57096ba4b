"""Who is refused, by kind of work, when a process is late or full."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from api.http.loop_delay import LoopDelay
from api.http.shedding import FULL, GIVES_WAY, LoadShedder
from api.http.work_of import work_of
from domain.priorities import RULES, Work
from integrations.telemetry.work_metrics import WorkMetrics


class Gate:
    full = False

    def refuses(self, parameter: str, authorization: bytes) -> bool:
        return parameter == "hot"


def made(delay_s: float = 0.0, gate: Gate | None = None) -> tuple[LoadShedder, CollectorRegistry]:
    registry, delay = CollectorRegistry(), LoopDelay()
    for _ in range(20):
        delay.sampled(delay_s)
    return LoadShedder(WorkMetrics(registry), delay, [gate] if gate else []), registry


async def test_a_process_that_is_on_time_refuses_nothing() -> None:
    shedder, _ = made()
    assert not shedder.alert
    assert {shedder.refusal(work) for work in Work} == {""}


@pytest.mark.parametrize("late", list(Work)[1:])
async def test_the_later_a_process_the_more_important_is_what_it_refuses(late: Work) -> None:
    shedder, _ = made(RULES[late].delay_max_s + 0.001)
    assert shedder.alert
    refused = [work for work in Work if shedder.refusal(work)]
    assert refused == list(Work)[list(Work).index(late) :]


async def test_one_long_step_is_no_standing_delay() -> None:
    delay = LoopDelay()
    for late_s in (0.0, 5.0, 3.0, 0.001, 4.0):
        delay.sampled(late_s)
    assert delay.standing_s == 0.0
    for _ in range(8):
        delay.sampled(0.3)
    assert delay.standing_s == 0.3
    delay.sampled(0.002)
    assert delay.standing_s == 0.002


async def test_each_kind_of_work_has_a_bound_and_what_leaves_makes_room() -> None:
    shedder, registry = made()
    most = RULES[Work.READ].in_flight_max
    for _ in range(most):
        assert not shedder.refusal(Work.READ)
        shedder.enter(Work.READ)
    assert shedder.refusal(Work.READ) == FULL
    assert not shedder.refusal(Work.ANSWER)
    shedder.settle()
    assert registry.get_sample_value("work_in_flight", {"work": "read"}) == most
    assert registry.get_sample_value("work_refused_total", {"work": "read", "reason": FULL}) == 1
    assert registry.get_sample_value("work_admitted_total", {"work": "read"}) == most
    shedder.leave(Work.READ)
    assert not shedder.refusal(Work.READ)


async def test_a_full_gate_refuses_whom_it_will_and_nobody_else() -> None:
    gate = Gate()
    shedder, _ = made(gate=gate)
    assert not shedder.refusal(Work.VOTE, gate, "hot")
    gate.full = True
    assert shedder.alert
    assert shedder.refusal(Work.VOTE, gate, "hot") == FULL
    assert not shedder.refusal(Work.VOTE, gate, "cold")


async def test_while_votes_are_refused_by_a_busy_process_reads_and_answers_give_way() -> None:
    gate = Gate()
    shedder, _ = made(0.01, gate)
    assert not shedder.refusal(Work.READ)
    gate.full = True
    assert shedder.refusal(Work.VOTE, gate, "hot") == FULL
    assert shedder.refusal(Work.READ) == GIVES_WAY
    assert shedder.refusal(Work.ANSWER) == GIVES_WAY
    assert not shedder.refusal(Work.MANAGEMENT)


async def test_a_cell_that_stands_still_costs_reads_of_another_nothing() -> None:
    gate = Gate()
    shedder, _ = made(0.0, gate)  # its votes are refused, and the process has time
    gate.full = True
    assert shedder.refusal(Work.VOTE, gate, "hot") == FULL
    assert not shedder.refusal(Work.READ)


async def test_the_delay_of_a_loop_that_is_kept_busy_is_seen() -> None:
    delay = LoopDelay()
    watching = asyncio.create_task(delay.watch())
    async with asyncio.timeout(30):
        await asyncio.sleep(0.05)
        while delay.standing_s < 0.005:
            busy_until = asyncio.get_running_loop().time() + 0.03
            while asyncio.get_running_loop().time() < busy_until:
                pass
            await asyncio.sleep(0)
    watching.cancel()


@pytest.mark.parametrize(
    ("method", "path", "work"),
    [
        (b"GET", b"/readyz", Work.OPERATION),
        (b"GET", b"/v1/surveys/s_1/results", Work.READ),
        (b"HEAD", b"/v1/surveys", Work.READ),
        (b"GET", b"/v1/submissions/1", Work.READ),
        (b"GET", b"/v1/surveys/s_1/ballots", Work.READ),
        (b"GET", b"/v1/surveys/s_1/ballots/1", Work.DOWNLOAD),
        (b"GET", b"/v1/surveys/s_1/b%61llots/1", Work.DOWNLOAD),
        (b"POST", b"/v1/surveys/s_1/answers", Work.ANSWER),
        (b"PUT", b"/v1/surveys/s_1/answers/1/finish", Work.ANSWER),
        (b"PUT", b"/v1/internal/surveys/s_1/finish", Work.MANAGEMENT),
        (b"GET", b"/v1/internal/surveys/s_1/results", Work.MANAGEMENT),
        (b"POST", b"/v1/auth/logins", Work.LOGIN),
        (b"POST", b"/v1/auth/logins/codes", Work.LOGIN),
        (b"POST", b"/v1/auth/logins/passkey-options", Work.LOGIN),
        (b"POST", b"/v1/auth/logins/a_eu_1/step-up", Work.STEP_UP),
        (b"POST", b"/v1/auth/logins/a_eu_1/passkey-options", Work.STEP_UP),
        (b"POST", b"/v1/auth/token", Work.MANAGEMENT),
    ],
)
def test_what_kind_of_work_a_request_is(method: bytes, path: bytes, work: Work) -> None:
    assert work_of(method, path) is work
