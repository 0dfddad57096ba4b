"""What reconciliation hands to other processes is what arrives there."""

import pickle

from domain.contracts.voting import Outcome
from domain.ids import BatchId
from domain.ledger_rows import BallotRow, BatchRow, LedgerTransaction, ParticipationRow
from domain.merkle import EMPTY_ROOT

BATCH = BatchId(bytes(16), 7)


def test_a_transaction_arrives_in_another_process_as_it_was_sent() -> None:
    batch = BatchRow(BATCH, 5, bytes([Outcome.RECORDED]), EMPTY_ROOT, EMPTY_ROOT, (), ({"batch": str(BATCH)},))
    participation = ParticipationRow("s_one", b"nullifier", "north", b"evidence")
    ballot = BallotRow("s_one", bytes(16), BATCH.gateway_id, BATCH.number, b"sealed")
    sent = LedgerTransaction(5, [batch], [participation], [ballot])

    arrived = pickle.loads(pickle.dumps(sent))

    assert arrived == sent
    assert [type(row) for row in (*arrived.participations, *arrived.ballots)] == [ParticipationRow, BallotRow]
    assert arrived.ballots[0].batch == BATCH


def test_what_is_printed_of_rows_names_nobody_and_opens_nothing() -> None:
    row = ParticipationRow("s_one", b"nullifier", "north", b"evidence")
    ballot = BallotRow("s_one", bytes(16), BATCH.gateway_id, BATCH.number, b"sealed")

    printed = repr([row, ballot, LedgerTransaction(5, [], [row], [ballot])])

    assert not any(kept in printed for kept in ("nullifier", "evidence", "sealed"))
