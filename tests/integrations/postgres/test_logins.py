"""Logins in a real cell: kept once, counted once, folded once, forgotten."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from domain.accounts import KeyedHash, PersonalData
from domain.contracts.login import (
    AssessLoginInput,
    ChallengeOutcome,
    CredentialLeak,
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
from domain.device_sightings import SEEN_FOR
from domain.errors import DomainError, ErrorCode
from domain.ids import new_attempt_id, new_voter_id
from domain.sessions import LoginMethod
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import KEK_PERSONAL
from integrations.postgres.credentials import PostgresCredentials
from integrations.postgres.device_sightings import PostgresDeviceSightings
from integrations.postgres.logins import PostgresLogins
from integrations.postgres.personal_records import PostgresPersonalRecords
from tests.conftest import OwnerPool
from tests.integrations.postgres.account_rows import make_account

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def logins(identity_pool: asyncpg.Pool) -> PostgresLogins:
    return PostgresLogins(identity_pool)


def hashed(versions: int = 1) -> tuple[HashedValue, ...]:
    return tuple(HashedValue(key_id=f"lookup/{number}", digest=secrets.token_bytes(32)) for number in range(versions))


def device(versions: int = 1) -> tuple[KeyedHash, ...]:
    return tuple(KeyedHash(each.key_id, each.digest) for each in hashed(versions))


def login(
    decision: LoginDecision = LoginDecision.ALLOW,
    voter: str = "",
    *,
    values: tuple[FeatureValue, ...] = (),
    factors: tuple[StepUpFactor, ...] = (),
    **counts: Any,
) -> RecordLoginInput:
    values = values or (FeatureValue(feature=LoginFeature.NETWORK, level=0, hashes=hashed()),)
    return RecordLoginInput(
        request=AssessLoginInput(
            attempt_id=new_attempt_id("eu"),
            voter_id=voter or new_voter_id("eu"),
            cell="eu",
            method=LoginMethod.OIDC,
            jkt="k" * 43,
            challenge_token="t",
            nonce="n",
            device_event_id="e",
            seen=values,
            leak=CredentialLeak.NOT_APPLICABLE,
            policy_version=1,
            device_policy_version=1,
            provider="sandbox",
            provider_session=b"sealed",
        ),
        signals=LoginSignals(
            my_logins=0, all_logins=0, sightings=(), challenge=ChallengeOutcome.PASSED, device_known=True
        ),
        verdict=LoginVerdict(decision=decision, score_permille=7, reasons=("new_device",), policy_version=1),
        counts=LoginCounts(values=values, at=NOW, **counts),
        factors=factors,
    )


async def counted(logins: PostgresLogins, voter: str, values: Sequence[FeatureValue]) -> tuple[FeatureCount, ...]:
    return (await logins.known(voter, hashed()[0], values)).counts


async def test_a_login_is_kept_and_counted_once_however_often_it_is_recorded(logins: PostgresLogins) -> None:
    made = login(device=hashed(2), place=b"sealed place")
    found = await asyncio.gather(*(logins.record(made) for _ in range(6)), logins.record(made))
    assert len({attempt.attempt_id for attempt in found}) == 1
    kept = await logins.get(made.request.attempt_id)
    assert kept is not None
    assert (kept.outcome, kept.verdict, kept.signals) == (LoginOutcome.ALLOWED, made.verdict, made.signals)
    assert (kept.provider, kept.provider_session, kept.device) == ("sandbox", b"sealed", made.counts.device[0].digest)
    known = await logins.known(made.request.voter_id, made.counts.values[0].hashes[-1], made.counts.values)
    assert ([count.mine for count in known.counts], known.owned) == ([1], frozenset())
    assert (known.my_logins, known.attempts_per_hour, known.network_attempts_per_minute) == (1, 1, 1)
    assert known.last_place == (b"sealed place", NOW)
    assert (await logins.known(new_voter_id("eu"), hashed()[0])).last_place is None


async def test_what_is_denied_or_not_finished_adds_nothing_to_the_history(logins: PostgresLogins) -> None:
    denied = await logins.record(login(LoginDecision.DENY))
    unfinished = login(LoginDecision.CHALLENGE, factors=(StepUpFactor.TOTP,))
    waiting = await logins.record(unfinished)
    hopeless = await logins.record(login(LoginDecision.CHALLENGE))
    assert [attempt.outcome for attempt in (denied, waiting, hopeless)] == [
        LoginOutcome.DENIED,
        None,
        LoginOutcome.DENIED,
    ]
    for attempt in (denied, waiting, hopeless):
        assert (await logins.known(attempt.voter_id, hashed()[0])).my_logins == 0


@pytest.mark.parametrize(("outcome", "mine"), [(LoginOutcome.STEPPED_UP, 1), (LoginOutcome.EXPIRED, 0)])
async def test_a_challenged_login_ends_once(logins: PostgresLogins, outcome: LoginOutcome, mine: int) -> None:
    made = login(LoginDecision.CHALLENGE, factors=(StepUpFactor.TOTP,))
    await logins.record(made)
    end = EndLoginInput(
        attempt_id=made.request.attempt_id, voter_id=made.request.voter_id, outcome=outcome, counts=made.counts
    )
    assert set(await asyncio.gather(*(logins.end(end) for _ in range(6)))) == {outcome}
    other = LoginOutcome.EXPIRED if mine else LoginOutcome.STEPPED_UP
    assert await logins.end(end.model_copy(update={"outcome": other})) is outcome  # the first end stays
    assert [count.mine for count in await counted(logins, made.request.voter_id, made.counts.values)] == [mine]
    with pytest.raises(DomainError, match="login_not_found"):
        await logins.end(end.model_copy(update={"attempt_id": new_attempt_id("eu")}))


async def test_logins_of_everybody_are_folded_once_whoever_folds(logins: PostgresLogins) -> None:
    value = FeatureValue(feature=LoginFeature.CLIENT, level=2, hashes=hashed())
    network = FeatureValue(feature=LoginFeature.NETWORK, level=0, hashes=hashed())
    before = (await logins.known(new_voter_id("eu"), hashed()[0])).all_logins
    for _ in range(5):
        await logins.record(login(values=(network, value)))
    folded = sum(await asyncio.gather(*(logins.fold() for _ in range(4)))) + await logins.fold()
    assert folded >= 5
    assert [count.everyone for count in await counted(logins, new_voter_id("eu"), [value])] == [5]
    assert (await logins.known(new_voter_id("eu"), hashed()[0])).all_logins >= before + 5


async def test_a_value_is_found_under_every_version_of_the_key(logins: PostgresLogins) -> None:
    voter, hashes = new_voter_id("eu"), hashed(3)
    for versions in (1, 2, 3):  # as versions were made in between
        value = FeatureValue(feature=LoginFeature.NETWORK, level=0, hashes=hashes[:versions])
        await logins.record(login(voter=voter, values=(value,)))
    wanted = FeatureValue(feature=LoginFeature.NETWORK, level=0, hashes=hashes)
    counts = (FeatureCount(feature=LoginFeature.NETWORK, level=0, mine=3, everyone=0),)
    assert (await logins.known(voter, hashes[0], [wanted])).counts == counts


async def test_what_is_known_names_the_credentials_that_count(
    logins: PostgresLogins, identity_pool: asyncpg.Pool
) -> None:
    credentials, voter = PostgresCredentials(identity_pool), await make_account(identity_pool)
    await credentials.put(voter, CredentialKind.PASSWORD, b"hash")
    await credentials.put(voter, CredentialKind.TOTP, b"sealed", confirmed=False)
    values = [FeatureValue(feature=LoginFeature.CLIENT, level=level, hashes=hashed(2)) for level in range(3)]
    known = await logins.known(voter, hashed()[0], values)
    assert known.owned == {CredentialKind.PASSWORD}
    assert [(count.level, count.mine, count.everyone) for count in known.counts] == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    assert (await logins.known(voter, hashed()[0])).counts == ()


async def test_a_device_is_known_as_its_sightings_correlate(
    logins: PostgresLogins, identity_pool: asyncpg.Pool
) -> None:
    sightings, (mine, others, nobodys) = PostgresDeviceSightings(identity_pool), (device(2) for _ in range(3))
    voter, other, lately = new_voter_id("eu"), new_voter_id("eu"), datetime.now(UTC)
    await sightings.note(mine, voter, lately)
    await sightings.note(mine, other, lately)
    await sightings.note(others, other, lately)
    await sightings.note(others, voter, lately - SEEN_FOR - timedelta(hours=1))
    found = []
    for met in (mine, others, nobodys, ()):
        correlated = await sightings.correlate(met, voter, datetime.now(UTC) - SEEN_FOR)
        known = (await logins.known(voter, hashed()[0], device=met)).on_device
        assert known == replace(correlated, others=())
        found.append((known.accounts_on_device, known.devices_of_account, known.known))
    assert found == [(2, 1, True), (1, 1, False), (0, 1, False), (0, 1, False)]


async def test_failures_count_for_the_account_and_the_network(logins: PostgresLogins) -> None:
    voter, (network,) = new_voter_id("eu"), hashed()
    for name in (voter, voter, ""):
        await logins.failed(name, KeyedHash(network.key_id, network.digest))
    known = await logins.known(voter, network)
    assert (known.failures_per_hour, known.attempts_per_hour, known.network_attempts_per_minute) == (2, 2, 3)


async def test_old_logins_are_purged(logins: PostgresLogins, owner_pool: OwnerPool) -> None:
    made = login(place=b"sealed")
    await logins.record(made)
    await logins.purge()
    assert await logins.get(made.request.attempt_id) is not None
    pool = await owner_pool("eu")
    await pool.execute(
        "UPDATE identity.login_attempt SET at = at - $2::interval WHERE attempt_id = $1",
        made.request.attempt_id,
        timedelta(days=401),
    )
    await logins.purge()
    assert await logins.get(made.request.attempt_id) is None


async def test_logins_that_are_away_say_so(closed_pool: asyncpg.Pool) -> None:
    logins, made = PostgresLogins(closed_pool), login()
    for call in (
        logins.record(made),
        logins.get(made.request.attempt_id),
        logins.known(made.request.voter_id, hashed()[0]),
        logins.fold(),
    ):
        with pytest.raises(DomainError) as failure:
            await call
        assert failure.value.code is ErrorCode.DIRECTORY_UNAVAILABLE


async def test_the_logins_of_a_stretch_are_read_in_order_and_never_more_than_asked(
    logins: PostgresLogins, owner_pool: OwnerPool
) -> None:
    since = NOW - timedelta(days=200, seconds=secrets.randbelow(10**6))
    made = [login() for _ in range(5)]
    for number, each in enumerate(made):
        await logins.record(each)
        await (await owner_pool("eu")).execute(
            "UPDATE identity.login_attempt SET at = $2 WHERE attempt_id = $1",
            each.request.attempt_id,
            since + timedelta(milliseconds=number // 2),
        )
    until = since + timedelta(milliseconds=2)
    found = await logins.between(since, until, None)
    assert found is not None
    assert {each.attempt_id for each in found} == {each.request.attempt_id for each in made[:4]}
    assert [(each.at, each.attempt_id) for each in found] == sorted((each.at, each.attempt_id) for each in found)
    assert found[0] == await logins.get(found[0].attempt_id)
    assert await logins.between(since, until, 4) == found
    assert await logins.between(since, until, 3) is None
    assert await logins.between(since, since, 3) == []


async def test_a_directory_that_is_away_has_no_stretch(closed_pool: asyncpg.Pool) -> None:
    with pytest.raises(DomainError) as failed:
        await PostgresLogins(closed_pool).between(NOW, NOW + timedelta(hours=1), None)
    assert failed.value.code is ErrorCode.DIRECTORY_UNAVAILABLE


async def test_a_device_event_is_used_up_by_the_first_login_that_asks_with_it(logins: PostgresLogins) -> None:
    voter, uses = new_voter_id("eu"), [EventUse(secrets.token_hex(8), new_attempt_id("eu")) for _ in range(2)]
    copied = EventUse(uses[0].event_id, uses[1].request)
    for use, fresh in ((uses[0], True), (uses[0], True), (copied, False), (uses[1], True), (None, True)):
        assert (await logins.known(voter, hashed()[0], event=use)).event_is_fresh is fresh
    raced = secrets.token_hex(8)
    asked = (logins.known(voter, hashed()[0], event=EventUse(raced, new_attempt_id("eu"))) for _ in range(6))
    assert sum(known.event_is_fresh for known in await asyncio.gather(*asked)) == 1


async def test_the_data_key_comes_with_what_is_known_until_it_is_destroyed(
    logins: PostgresLogins, identity_pool: asyncpg.Pool, tmp_path: Path
) -> None:
    records = PostgresPersonalRecords(identity_pool, FileKms(tmp_path, frozenset({KEK_PERSONAL})))
    voter, here = await make_account(identity_pool), PersonalData({"latitude": "52.5"})
    assert (await logins.known(voter, hashed()[0])).data_key is None
    sealed = await records.seal(voter, here)
    key = (await logins.known(voter, hashed()[0])).data_key
    assert key is not None
    again = await records.seal(voter, here, key)
    assert await records.unseal(voter, again) == await records.unseal(voter, sealed, key) == here
    await records.destroy(voter)
    assert (await logins.known(voter, hashed()[0])).data_key is None
    assert await records.unseal(voter, again) is None
