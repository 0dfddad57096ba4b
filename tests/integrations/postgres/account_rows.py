"""Accounts with sessions in a real cell."""

import secrets
from datetime import datetime

import asyncpg

from domain.accounts import KeyedHash, LookupKind
from domain.ids import new_person_id, new_session_id, new_voter_id
from domain.sessions import LoginMethod, NewSession, new_refresh_token
from domain.tokens import Assurance, RiskBand
from integrations.postgres.accounts import PostgresAccounts
from integrations.postgres.sessions import PostgresSessions


def hashed() -> KeyedHash:
    return KeyedHash("lookup/1", secrets.token_bytes(32))


async def make_account(pool: asyncpg.Pool, mail: KeyedHash | None = None) -> str:
    """Return an active voter that an address leads to."""
    voter, accounts = new_voter_id("eu"), PostgresAccounts(pool, "eu")
    await accounts.open(voter, "DE", {LookupKind.MAIL: [mail or hashed()]})
    await accounts.activate(voter, new_person_id(), Assurance.SUBSTANTIAL, 18)
    return voter


async def open_session(pool: asyncpg.Pool, voter: str, logged_in_at: datetime | None = None) -> str:
    session = NewSession(
        session_id=new_session_id("eu"),
        voter_id=voter,
        jkt="k" * 43,
        method=LoginMethod.PASSWORD,
        assurance=Assurance.SUBSTANTIAL,
        risk=RiskBand.LOW,
        device="d" * 43,
        network="192.0.2.0/24",
        logged_in_at=logged_in_at,
    )
    await PostgresSessions(pool).open(session, new_refresh_token("eu"))
    return session.session_id
