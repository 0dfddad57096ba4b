"""The lines of the table by name, in the order in which they are measured and printed."""

from collections.abc import Awaitable, Callable

from benchmarks.lines import (
    admission,
    archive,
    audit_log,
    bound_votes,
    broker_lost,
    cases,
    cell_lost,
    confirmed_votes,
    dbos,
    fail_over,
    latency,
    limits,
    login,
    many_streams,
    open_cases,
    overload,
    overload_elsewhere,
    reconciliation,
    recount,
    registration,
    replay,
    rolling,
    seen_live,
    standby,
    tally_folding,
    tally_rebuild,
    temporal_fail_over,
    temporal_server,
    transitions,
    workflow_per_vote,
)
from benchmarks.report import Line
from benchmarks.run import Run

Measurement = Callable[[Run], Awaitable[list[Line]]]

LINES: dict[str, Measurement] = {
    "confirmed-votes": confirmed_votes.measure,
    "workflow-per-vote": workflow_per_vote.measure,
    "dbos": dbos.measure,
    "bound-votes": bound_votes.measure,
    "admission": admission.measure,
    "login": login.measure,
    "registration": registration.measure,
    "open-cases": open_cases.measure,
    "latency": latency.measure,
    "seen-live": seen_live.measure,
    "transitions": transitions.measure,
    "tally-folding": tally_folding.measure,
    "tally-rebuild": tally_rebuild.measure,
    "many-streams": many_streams.measure,
    "recount": recount.measure,
    "audit-log": audit_log.measure,
    "reconciliation": reconciliation.measure,
    "cases": cases.measure,
    "replay": replay.measure,
    "archive": archive.measure,
    "overload": overload.measure,
    "overload-elsewhere": overload_elsewhere.measure,
    "rolling": rolling.measure,
    "limits": limits.measure,
    "temporal-server": temporal_server.measure,
    "temporal-fail-over": temporal_fail_over.measure,
    "broker-lost": broker_lost.measure,
    "standby": standby.measure,
    "fail-over": fail_over.measure,
    "cell-lost": cell_lost.measure,
}

BY_NAME_ONLY = frozenset({"open-cases"})  # takes twenty minutes
