"""How a load client shares the machine with what it measures."""

import os


def give_way() -> None:
    """Never take a core from a process that runs, of this process on: a client of another machine could not.

    Linux would let whoever has just been answered go before whoever answers, and the service would wait behind its own
    callers. Other systems know nothing of it, and there nothing is changed. Safe to repeat.
    """
    if hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
