"""Keeps the differences of one cell: each once, open until it is repaired or no longer found."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from domain.contracts.reconciliation import REPAIRABLE, Difference, DifferenceKind

LEDGER_KINDS = frozenset(DifferenceKind) - REPAIRABLE - {DifferenceKind.NULLIFIER_IN_TWO_CELLS}
_NAMED_MAX = 200  # of a kind; the last of them says how many more there are

_WRITE = """
INSERT INTO reconciliation.difference (survey_id, kind, subject, body, repaired_at)
SELECT $1, kind, subject, body, CASE WHEN $5 THEN now() END
FROM unnest($2::text[], $3::text[], $4::jsonb[]) AS fresh (kind, subject, body)
ON CONFLICT ON CONSTRAINT pk_difference DO UPDATE SET body = excluded.body, seen_at = now(), cleared_at = NULL,
    repaired_at = excluded.repaired_at,
    found_at = CASE WHEN difference.repaired_at IS NULL AND difference.cleared_at IS NULL
        THEN difference.found_at ELSE now() END
"""
_CLEAR = """
UPDATE reconciliation.difference SET cleared_at = now()
WHERE survey_id = $1 AND kind = ANY($2::text[]) AND repaired_at IS NULL AND cleared_at IS NULL
    AND NOT EXISTS (
        SELECT FROM unnest($3::text[], $4::text[]) AS still (kind, subject)
        WHERE still.kind = difference.kind AND still.subject = difference.subject
    )
"""
_OPEN = """
SELECT body FROM (
    SELECT kind, body, found_at, row_number() OVER (PARTITION BY kind ORDER BY found_at, subject) AS place
    FROM reconciliation.difference WHERE survey_id = $1 AND repaired_at IS NULL AND cleared_at IS NULL
) AS found WHERE place <= $2 ORDER BY kind, place
"""


async def write_differences(
    connection: Any, survey_id: str, differences: Iterable[Difference], *, repaired: bool = False
) -> None:
    """Keep differences as open, or as repaired; one that was found before stays one."""
    named = {(found.kind, _subject(found)): found for found in _bounded(differences)}
    if named:
        await connection.execute(
            _WRITE,
            survey_id,
            [kind.value for kind, _ in named],
            [subject for _, subject in named],
            [found.model_dump_json() for found in named.values()],
            repaired,
        )


async def clear_differences(
    connection: Any, survey_id: str, kinds: Collection[DifferenceKind], still: Sequence[Difference]
) -> None:
    """Clear what is open of these kinds and not among those that are still found."""
    named = _bounded(still)
    await connection.execute(
        _CLEAR,
        survey_id,
        [kind.value for kind in kinds],
        [found.kind.value for found in named],
        [_subject(found) for found in named],
    )


async def read_open(connection: Any, survey_id: str) -> tuple[Difference, ...]:
    """Return the open differences of a survey."""
    rows = await connection.fetch(_OPEN, survey_id, _NAMED_MAX)
    return tuple(Difference.model_validate_json(row["body"]) for row in rows)


def _subject(found: Difference) -> str:
    """Return what a difference is about: with its kind, the same whenever it is found again."""
    return f"{found.batch}/{found.ballot}/{found.participation}/{found.region}/{found.option}/{found.other_cell}"


def _bounded(differences: Iterable[Difference]) -> list[Difference]:
    by_kind: defaultdict[DifferenceKind, list[Difference]] = defaultdict(list)
    for found in differences:
        by_kind[found.kind].append(found)
    bounded: list[Difference] = []
    for all_found in by_kind.values():
        named, more = all_found[:_NAMED_MAX], all_found[_NAMED_MAX:]
        if more:
            further = named[-1].more + len(more) + sum(each.more for each in more)
            named[-1] = named[-1].model_copy(update={"more": further})
        bounded += named
    return bounded
