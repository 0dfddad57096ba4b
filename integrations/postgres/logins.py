"""The logins of one cell, in `identity.login_attempt`, and the history that the next ones are compared with."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from domain.accounts import KeyedHash
from domain.audit import AuditEntry, AuditKind
from domain.certificates import canonical_json
from domain.contracts.login import (
    EndLoginInput,
    FeatureCount,
    FeatureValue,
    LoginCounts,
    LoginDecision,
    LoginFeature,
    LoginOutcome,
    LoginSignals,
    LoginVerdict,
    RecordLoginInput,
    StepUpFactor,
)
from domain.contracts.registration import HashedValue
from domain.credentials import CredentialKind
from domain.device_events import EventUse
from domain.device_sightings import COUNTED_MAX, SEEN_FOR, DeviceCorrelation
from domain.errors import DomainError, ErrorCode
from domain.logins import KnownLogins, LoginAttempt
from domain.sessions import LoginMethod
from integrations.postgres.audit_entries import row_of
from integrations.postgres.device_events import used, used_with
from integrations.postgres.device_sightings import SEEN_AGAIN, arrays, counted_on_device, sightings_max
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

KEPT = timedelta(days=400)  # what was decided, for whoever asks within a year
FAILURES_KEPT = timedelta(days=30)
FOLDED_MAX = 10_000  # logins at once
_PURGED_MAX = 10_000
_JUDGE = "process:assess-login"
_ANY = ("any", 0, "", bytes(32))  # the row that counts logins

_COUNTED_MAX, _NETWORK_COUNTED_MAX = 1000, 5000
_PAST = """
SELECT
    ARRAY(SELECT DISTINCT kind FROM identity.credential WHERE voter_id = $1 AND confirmed_at IS NOT NULL) AS owned,
    coalesce((SELECT seen FROM identity.login_feature
        WHERE voter_id = $1 AND feature = $3 AND level = $4 AND key_id = $5 AND digest = $6), 0) AS my_logins,
    coalesce((SELECT seen FROM identity.login_feature_total
        WHERE feature = $3 AND level = $4 AND key_id = $5 AND digest = $6), 0) AS all_logins,
    (SELECT count(*) FROM (SELECT FROM identity.login_attempt
        WHERE voter_id = $1 AND at > now() - interval '1 hour' LIMIT $7) AS few) AS attempts,
    (SELECT count(*) FROM (SELECT FROM identity.login_failure
        WHERE voter_id = $1 AND at > now() - interval '1 hour' LIMIT $7) AS few) AS failures,
    (SELECT count(*) FROM (SELECT FROM identity.login_attempt
        WHERE network = $2 AND at > now() - interval '1 minute' LIMIT $8) AS few)
    + (SELECT count(*) FROM (SELECT FROM identity.login_failure
        WHERE network = $2 AND at > now() - interval '1 minute' LIMIT $8) AS few) AS network
"""


def _counted(first: int) -> str:
    """Return what counts the values of the arrays that are the parameters from `first` on, of the voter who is $1.

    Some logins were counted under the key's older versions, so a value's count is the sum over its hashes.
    """
    types = ("integer", "text", "smallint", "text", "bytea")
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(types, start=first))
    return f"""
SELECT wanted.place, coalesce(sum(mine.seen), 0)::bigint AS mine, coalesce(sum(everyone.seen), 0)::bigint AS everyone
FROM unnest({arrays})
    AS wanted (place, feature, level, key_id, digest)
LEFT JOIN identity.login_feature AS mine ON mine.voter_id = $1 AND mine.feature = wanted.feature
    AND mine.level = wanted.level AND mine.key_id = wanted.key_id AND mine.digest = wanted.digest
LEFT JOIN identity.login_feature_total AS everyone ON everyone.feature = wanted.feature
    AND everyone.level = wanted.level AND everyone.key_id = wanted.key_id AND everyone.digest = wanted.digest
GROUP BY wanted.place
"""  # noqa: S608 - of constants


# One row for each value, or one that names none: everything else is in all of them.
_KNOWN = f"""
WITH used AS ({used_with(18)})
SELECT known.*, met.*, been_at.sealed, been_at.at, counted.place, counted.mine, counted.everyone,
    (SELECT fresh FROM used), (SELECT wrapped FROM identity.personal_key WHERE voter_id = $1) AS data_key
FROM ({_PAST}) AS known CROSS JOIN ({counted_on_device(14)}) AS met
LEFT JOIN identity.login_place AS been_at ON been_at.voter_id = $1
LEFT JOIN ({_counted(9)}) AS counted ON true
"""  # noqa: S608 - of constants

_ATTEMPT = """attempt_id, voter_id, method, jkt, device, provider, provider_session, decision, score_permille, reasons,
    policy_version, signals::text AS signals, factors, outcome, at"""
_GET = f"SELECT {_ATTEMPT} FROM identity.login_attempt WHERE attempt_id = $1"  # noqa: S608 - of constants
_BETWEEN = f"SELECT {_ATTEMPT} FROM identity.login_attempt WHERE at >= $1 AND at < $2 ORDER BY at, attempt_id LIMIT $3"  # noqa: S608
# The account is held until the decision is written: whoever recovers it at the same time is waited for.
_HELD = "SELECT logins_from FROM identity.voter WHERE voter_id = $1 FOR SHARE"
# What goes with a decision in the very statement that keeps it, whose row is `decided`: its audit entry, and of a login
# that is let in what it adds to the histories.
_ADDED = f"""
let_in AS (
    SELECT FROM decided WHERE outcome IN ('allowed', 'stepped_up')
), mine AS (
    INSERT INTO identity.login_feature AS known (voter_id, feature, level, key_id, digest, seen)
    SELECT $1::text, value.feature, value.level, value.key_id, value.digest, 1
    FROM let_in, unnest($2::text[], $3::smallint[], $4::text[], $5::bytea[]) AS value (feature, level, key_id, digest)
    ORDER BY value.feature, value.level, value.key_id, value.digest
    ON CONFLICT ON CONSTRAINT pk_login_feature DO UPDATE SET seen = known.seen + 1, last_seen = now()
), to_fold AS (
    INSERT INTO identity.login_feature_new (features, levels, key_ids, digests)
    SELECT $2::text[], $3::smallint[], $4::text[], $5::bytea[] FROM let_in
), seen_on AS (
    INSERT INTO identity.device_sighting AS seen (key_id, digest, voter_id, first_seen, last_seen, flags)
    SELECT DISTINCT device.key_id, device.digest, $1::text, $9::timestamptz, $9::timestamptz, $8::text[]
    FROM let_in, unnest($6::text[], $7::bytea[]) AS device (key_id, digest) ORDER BY device.key_id, device.digest
    {SEEN_AGAIN}
), been_at AS (
    INSERT INTO identity.login_place AS known (voter_id, sealed, at)
    SELECT $1::text, $10::bytea, $9::timestamptz FROM let_in WHERE $10::bytea IS NOT NULL
    ON CONFLICT ON CONSTRAINT pk_login_place DO UPDATE SET sealed = excluded.sealed, at = excluded.at
    WHERE known.at <= excluded.at
), audited AS (
    INSERT INTO audit.entry (kind, body) SELECT $11::text, {{body}} FROM decided
)
"""  # noqa: S608 - of constants
_RECORD = f"""
WITH holder AS MATERIALIZED ({_HELD}), account AS MATERIALIZED (
    SELECT $27::timestamptz <= max(logins_from) AS outdated FROM holder
), decided AS (
    INSERT INTO identity.login_attempt (attempt_id, voter_id, method, jkt, device, network, provider, provider_session,
        decision, score_permille, reasons, policy_version, signals, factors, outcome, ended_at, at)
    VALUES ($13, $1, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24::jsonb, $25,
        CASE WHEN (SELECT outdated FROM account) THEN 'expired' ELSE $26::text END,
        CASE WHEN $26::text IS NOT NULL OR (SELECT outdated FROM account) THEN now() END,
        least(now(), $27::timestamptz))
    ON CONFLICT ON CONSTRAINT pk_login_attempt DO NOTHING RETURNING {_ATTEMPT}
), {_ADDED.format(body="$12::jsonb")}, expired AS (
    INSERT INTO audit.entry (kind, body) SELECT $28::text, $29::jsonb FROM decided WHERE outcome = 'expired'
)
SELECT * FROM decided
"""  # noqa: S608 - of constants
_AS_IT_ENDED = "jsonb_set($12::jsonb, '{outcome}', to_jsonb(outcome))"
_END = f"""
WITH holder AS MATERIALIZED ({_HELD}), account AS MATERIALIZED (
    SELECT max(logins_from) AS logins_from FROM holder
), decided AS (
    UPDATE identity.login_attempt SET
        outcome = CASE WHEN at <= account.logins_from THEN 'expired' ELSE $14::text END, factor = $15, ended_at = now()
    FROM account WHERE attempt_id = $13 AND outcome IS NULL RETURNING outcome
), {_ADDED.format(body=_AS_IT_ENDED)}
SELECT outcome FROM decided
"""  # noqa: S608 - of constants
_OUTCOME = "SELECT outcome FROM identity.login_attempt WHERE attempt_id = $1"
_FAILED = "INSERT INTO identity.login_failure (voter_id, network) VALUES ($1, $2)"
# Whoever folds at the same time takes other rows; what was taken is counted in the same statement.
_FOLD = """
WITH taken AS (
    DELETE FROM identity.login_feature_new WHERE login_id IN (
        SELECT login_id FROM identity.login_feature_new ORDER BY login_id LIMIT $1 FOR UPDATE SKIP LOCKED
    ) RETURNING features, levels, key_ids, digests
), folded AS (
    INSERT INTO identity.login_feature_total AS known (feature, level, key_id, digest, seen)
    SELECT seen.feature, seen.level, seen.key_id, seen.digest, count(*)
    FROM taken, unnest(taken.features, taken.levels, taken.key_ids, taken.digests)
        AS seen (feature, level, key_id, digest)
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT ON CONSTRAINT pk_login_feature_total
    DO UPDATE SET seen = known.seen + excluded.seen, last_seen = now()
)
SELECT count(*) FROM taken
"""
_PURGE = (
    ("login_attempt", "at", KEPT),
    ("login_failure", "at", FAILURES_KEPT),
    ("login_feature", "last_seen", KEPT),
    ("login_feature_total", "last_seen", KEPT),
    ("login_place", "at", KEPT),
)
_ENDED = {LoginDecision.ALLOW: LoginOutcome.ALLOWED, LoginDecision.DENY: LoginOutcome.DENIED}


class PostgresLogins:
    """Implements `Logins`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def known(
        self,
        voter_id: str,
        network: HashedValue,
        values: Sequence[FeatureValue] = (),
        device: Sequence[KeyedHash] = (),
        event: EventUse | None = None,
    ) -> KnownLogins:
        """Return everything that is known of a voter and of a device, and use up its event, in one round trip."""
        asked = (voter_id, network.digest, *_ANY, _COUNTED_MAX, _NETWORK_COUNTED_MAX)
        met = (*arrays(device), datetime.now(UTC) - SEEN_FOR, sightings_max(device))
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_KNOWN, *asked, *_wanted(values), *met, *used(event))
        return KnownLogins(
            my_logins=rows[0]["my_logins"],
            all_logins=rows[0]["all_logins"],
            attempts_per_hour=rows[0]["attempts"] + rows[0]["failures"],
            network_attempts_per_minute=rows[0]["network"],
            failures_per_hour=rows[0]["failures"],
            counts=_counts(values, rows),
            owned=frozenset(CredentialKind(kind) for kind in rows[0]["owned"]),
            on_device=DeviceCorrelation(
                accounts_on_device=min(rows[0]["accounts"], COUNTED_MAX),
                devices_of_account=rows[0]["devices"],
                known=rows[0]["known"],
            ),
            last_place=None if rows[0]["sealed"] is None else (rows[0]["sealed"], rows[0]["at"]),
            event_is_fresh=rows[0]["fresh"] is not False,
            data_key=rows[0]["data_key"],
        )

    async def record(self, login: RecordLoginInput) -> LoginAttempt:
        """Keep a judged login once."""
        request, verdict = login.request, login.verdict
        outcome = _ENDED.get(verdict.decision)
        if outcome is None and not login.factors:
            outcome = LoginOutcome.DENIED  # there is nothing to wait for
        network = next(value.hashes[-1].digest for value in request.seen if value.feature is LoginFeature.NETWORK)
        row = (
            request.attempt_id,
            request.method,
            request.jkt,
            login.counts.device[0].digest if login.counts.device else None,
            network,
            request.provider,
            request.provider_session or None,
            verdict.decision,
            verdict.score_permille,
            list(verdict.reasons),
            verdict.policy_version,
            login.signals.model_dump_json(),
            [str(factor) for factor in login.factors],
            outcome,
            request.proven_at,
            *row_of(_end_of(request.attempt_id, LoginOutcome.EXPIRED)),
        )
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            found = await self._pool.fetchrow(_RECORD, *_added(request.voter_id, login.counts, _decided(login)), *row)
            if found is None:  # recorded before
                async with acknowledged(self._pool) as connection:
                    (found,) = await connection.fetch(_GET, request.attempt_id)
        return _attempt(found)

    async def end(self, ended: EndLoginInput) -> LoginOutcome:
        """Keep how a challenged login ended; the first end stays."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = (ended.attempt_id, ended.outcome, ended.factor)
            entry = _end_of(ended.attempt_id, ended.outcome, ended.factor)
            kept = await self._pool.fetchval(_END, *_added(ended.voter_id, ended.counts, entry), *row)
            if kept is None:  # ended before, or never begun
                async with acknowledged(self._pool) as connection:
                    kept = await connection.fetchval(_OUTCOME, ended.attempt_id)
        if kept is None:
            raise DomainError(ErrorCode.LOGIN_NOT_FOUND, ended.attempt_id)
        return LoginOutcome(kept)

    async def get(self, attempt_id: str) -> LoginAttempt | None:
        """Return a login, or None."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            row = await self._pool.fetchrow(_GET, attempt_id)
        return None if row is None else _attempt(row)

    async def between(self, since: datetime, until: datetime, most: int | None) -> Sequence[LoginAttempt] | None:
        """Return the logins of a stretch of time, oldest first; None where there are more than `most`."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_BETWEEN, since, until, None if most is None else most + 1)
        return None if most is not None and len(rows) > most else [_attempt(row) for row in rows]

    async def failed(self, voter_id: str, network: KeyedHash) -> None:
        """Count a proof that was not good."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            await self._pool.execute(_FAILED, voter_id, network.digest)

    async def fold(self) -> int:
        """Add what logins have left to everybody's history; return how many, at most `FOLDED_MAX`. Each counts once."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return int(await self._pool.fetchval(_FOLD, FOLDED_MAX))

    async def purge(self) -> None:
        """Forget what is too old to matter, a few thousand rows of each kind at a time."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            for table, time, kept in _PURGE:
                old = f"SELECT ctid FROM identity.{table} WHERE {time} < now() - $1::interval LIMIT $2"  # noqa: S608
                statement = f"DELETE FROM identity.{table} WHERE ctid = ANY (ARRAY({old}))"  # noqa: S608 - of constants
                await self._pool.execute(statement, kept, _PURGED_MAX)


def _wanted(values: Sequence[FeatureValue]) -> tuple[list[Any], ...]:
    """Return the arrays that `_counted` takes."""
    wanted = [(place, value, one) for place, value in enumerate(values) for one in value.hashes]
    return (
        [place for place, _, _ in wanted],
        [str(value.feature) for _, value, _ in wanted],
        [value.level for _, value, _ in wanted],
        [one.key_id for _, _, one in wanted],
        [one.digest for _, _, one in wanted],
    )


def _counts(values: Sequence[FeatureValue], rows: Sequence[asyncpg.Record]) -> tuple[FeatureCount, ...]:
    found = {row["place"]: row for row in rows}
    return tuple(
        FeatureCount(feature=value.feature, level=value.level, mine=row["mine"], everyone=row["everyone"])
        for place, value in enumerate(values)
        if (row := found.get(place)) is not None
    )


def _added(voter_id: str, counts: LoginCounts, entry: AuditEntry) -> tuple[Any, ...]:
    """Return what `_ADDED` takes: a voter, values, a device with its flags, when, a place, and an audit entry."""
    newest = [
        (str(value.feature), value.level, value.hashes[-1].key_id, value.hashes[-1].digest) for value in counts.values
    ]
    columns = [list(column) for column in zip(*newest, _ANY, strict=True)]
    keys, digests = [one.key_id for one in counts.device], [one.digest for one in counts.device]
    device = (keys, digests, list(counts.device_flags))
    return voter_id, *columns, *device, counts.at, counts.place or None, *row_of(entry)


def _decided(login: RecordLoginInput) -> AuditEntry:
    """The entry of a decision; its digest is over what was judged by, so that nobody gives other reasons later."""
    verdict = login.verdict
    judged = {
        "attempt": login.request.attempt_id,
        "verdict": verdict.model_dump(mode="json"),
        "signals": login.signals.model_dump(mode="json"),
    }
    return AuditEntry(
        AuditKind.LOGIN_DECIDED,
        _JUDGE,
        login.request.attempt_id,
        outcome=verdict.decision.lower(),
        after=hashlib.sha256(canonical_json(judged)).digest(),
        facts={
            "policyVersion": verdict.policy_version,
            "method": login.request.method.value,
            "provider": login.request.provider,
            "factors": ",".join(login.factors),
        },
    )


def _end_of(attempt_id: str, outcome: LoginOutcome, factor: StepUpFactor | None = None) -> AuditEntry:
    facts = {"factor": factor.value if factor is not None else ""}
    return AuditEntry(AuditKind.LOGIN_ENDED, _JUDGE, attempt_id, outcome=outcome.lower(), facts=facts)


def _attempt(row: asyncpg.Record) -> LoginAttempt:
    return LoginAttempt(
        attempt_id=row["attempt_id"],
        voter_id=row["voter_id"],
        method=LoginMethod(row["method"]),
        jkt=row["jkt"],
        signals=LoginSignals.model_validate_json(row["signals"]),
        verdict=LoginVerdict(
            decision=LoginDecision(row["decision"]),
            score_permille=row["score_permille"],
            reasons=tuple(row["reasons"]),
            policy_version=row["policy_version"],
        ),
        factors=tuple(StepUpFactor(factor) for factor in row["factors"]),
        outcome=None if row["outcome"] is None else LoginOutcome(row["outcome"]),
        at=row["at"],
        device=row["device"] or b"",
        provider=row["provider"],
        provider_session=row["provider_session"] or b"",
    )
