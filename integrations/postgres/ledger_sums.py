"""How the sums of a survey's ledger are kept between passes: numbers as JSON, batches as bitmaps."""

import json
from typing import Any

from domain.batch_bits import BatchBits
from domain.ledger_sums import LedgerSums
from domain.tally import BALLOTS, Counts

_WRITE_BITS = """
INSERT INTO reconciliation.batch_bits (survey_id, gateway_id, chunk, bits)
SELECT $1, gateway_id, chunk, bits
FROM unnest($2::bytea[], $3::bigint[], $4::bytea[]) AS fresh (gateway_id, chunk, bits)
ON CONFLICT ON CONSTRAINT pk_batch_bits DO UPDATE SET bits = excluded.bits
"""


def sums_json(sums: LedgerSums) -> str:
    """Return sums as they are kept; the batches are kept apart."""
    regions = {
        name: {"participations": found.participations, "counted": found.counted, "options": dict(found.options)}
        for name, found in sums.regions.items()
    }
    return json.dumps({"ballots": sums.ballots, "regions": regions})


def read_sums(text: str) -> LedgerSums:
    """Return sums as they were kept, without batches."""
    kept = json.loads(text)
    sums = LedgerSums()
    sums.ballots = kept["ballots"]
    for name, found in kept["regions"].items():
        region = sums.of(name)
        region.participations, region.counted = found["participations"], found["counted"]
        region.options.update(found["options"])
    return sums


def counts_of(sums: LedgerSums) -> Counts:
    """Return what the batches count, as the tally has it."""
    counts: Counts = {}
    for name, region in sums.regions.items():
        if region.counted:
            counts[name, BALLOTS] = region.counted
        counts |= {(name, option): votes for option, votes in region.options.items()}
    return counts


async def read_bits(connection: Any, survey_id: str) -> BatchBits:
    """Return the batches of a survey up to its checkpoint."""
    rows = await connection.fetch(
        "SELECT gateway_id, chunk, bits FROM reconciliation.batch_bits WHERE survey_id = $1", survey_id
    )
    return BatchBits({(row["gateway_id"].hex(), row["chunk"]): row["bits"] for row in rows})


async def write_bits(connection: Any, survey_id: str, bits: BatchBits, *, replace: bool) -> None:
    """Add batches to those that are kept, or put them in their place."""
    if replace:
        await connection.execute("DELETE FROM reconciliation.batch_bits WHERE survey_id = $1", survey_id)
    if not bits.chunks:
        return
    places = list(bits.chunks)
    gateways, chunks = [bytes.fromhex(gateway) for gateway, _ in places], [chunk for _, chunk in places]
    rows = await connection.fetch(
        "SELECT gateway_id, chunk, bits FROM reconciliation.batch_bits "
        "JOIN unnest($2::bytea[], $3::bigint[]) AS fresh (gateway_id, chunk) USING (gateway_id, chunk) "
        "WHERE survey_id = $1",
        survey_id,
        gateways,
        chunks,
    )
    whole = BatchBits({(row["gateway_id"].hex(), row["chunk"]): row["bits"] for row in rows})
    whole.include(bits.chunks)
    await connection.execute(_WRITE_BITS, survey_id, gateways, chunks, [bytes(whole.chunks[place]) for place in places])
