"""What goes first when a process cannot do everything: a rule as data, the same for every service."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Work(StrEnum):
    """What a request asks for, most important first."""

    OPERATION = "operation"  # whether the process lives, is ready, and its metrics: never refused
    VOTE = "vote"
    ADMISSION = "admission"  # a voting token, without which there is no vote
    STEP_UP = "step_up"  # who is half-way through a login comes before who begins one
    MANAGEMENT = "management"  # staff
    ANSWER = "answer"  # one step of an answer session
    LOGIN = "login"
    READ = "read"
    DOWNLOAD = "download"  # a public file of any size, which takes as long as its reader likes


@dataclass(frozen=True, slots=True)
class WorkRule:
    """When work of one kind is refused, and what happens to it when nobody waits for it any more.

    `delay_max_s` is the standing delay of the process (how late it does everything) from which on this work is
    refused: the less important the work, the sooner. `in_flight_max` bounds what one process does of it at once.
    Work that `gives_way` is refused as long as votes are refused because the process is busy. Work that is
    `abandonable` is stopped where it stands when its caller has gone or its time is up: stopping it half-way leaves
    nothing half done. Of work that `ends_with_input` the caller has gone once it says that it sends no more, which is
    how most clients close a connection; for other work that is a client which still reads.
    """

    delay_max_s: float
    in_flight_max: int
    gives_way: bool = False
    abandonable: bool = False
    ends_with_input: bool = False


RULES: Final = MappingProxyType(
    {
        Work.OPERATION: WorkRule(delay_max_s=float("inf"), in_flight_max=64),
        Work.VOTE: WorkRule(delay_max_s=0.4, in_flight_max=20_000),  # its own limit is by cell: the gateway's intake
        Work.ADMISSION: WorkRule(delay_max_s=0.3, in_flight_max=20_000),  # and here the desk's queue
        Work.STEP_UP: WorkRule(delay_max_s=0.25, in_flight_max=512),
        Work.MANAGEMENT: WorkRule(delay_max_s=0.2, in_flight_max=128),
        Work.ANSWER: WorkRule(delay_max_s=0.16, in_flight_max=256, gives_way=True, abandonable=True),
        # And here the room for logins, whose place is free once nobody waits for the login that has it. What is stopped
        # opens no session, or one that nobody has the tokens of: as where the process dies.
        Work.LOGIN: WorkRule(
            delay_max_s=0.13, in_flight_max=48, gives_way=True, abandonable=True, ends_with_input=True
        ),
        Work.READ: WorkRule(delay_max_s=0.1, in_flight_max=512, gives_way=True, abandonable=True),
        # By itself, so that readers who are slow take no place of anybody who reads something else.
        Work.DOWNLOAD: WorkRule(delay_max_s=0.08, in_flight_max=128, gives_way=True, abandonable=True),
    }
)
