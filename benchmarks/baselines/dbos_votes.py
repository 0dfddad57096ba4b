"""The baseline *DBOS*: one durable workflow of two steps per vote, answered when its result is there.

The same table, body and token check as *plain*. `announce` does nothing, which favours this side: what is measured is
the durability of the process around the insert. DBOS keeps its own tables in `BASELINE_DBOS_URL`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from dbos import DBOS, DBOSConfig, SetWorkflowID
from fastapi import FastAPI, HTTPException

from benchmarks.baselines.ballots import INSERT, Ballot, Confirmation
from benchmarks.baselines.voting_tokens import Claims

POOL_SIZE = int(os.environ.get("BASELINE_POOL_SIZE", "20"))
SYSTEM_POOL_SIZE = int(os.environ.get("BASELINE_DBOS_POOL_SIZE", "20"))


class Votes:
    """The steps' one resource, made in the lifespan: DBOS registers steps as module functions."""

    pool: asyncpg.Pool


@DBOS.step()
async def record(survey_id: str, nullifier: str, answers: str) -> bool:
    """Insert one vote; False where the person voted before."""
    try:
        await Votes.pool.execute(INSERT, survey_id, nullifier, answers)
    except asyncpg.UniqueViolationError:
        return False
    return True


@DBOS.step()
async def announce(survey_id: str) -> None:
    """Tell nobody: a message broker would only slow this side down."""


@DBOS.workflow()
async def submit_vote(survey_id: str, nullifier: str, answers: str) -> bool:
    """Record a vote, then announce it."""
    recorded = await record(survey_id, nullifier, answers)
    await announce(survey_id)
    return recorded


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Hold the pool and DBOS while the application serves."""
    config: DBOSConfig = {
        "name": "votes",
        "system_database_url": os.environ["BASELINE_DBOS_URL"],
        "sys_db_pool_size": SYSTEM_POOL_SIZE,
        "log_level": "ERROR",
        "executor_id": f"votes-{os.getpid()}",
        "application_version": "1",
    }
    DBOS(config=config)
    async with asyncpg.create_pool(os.environ["BASELINE_DSN"], min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
        Votes.pool = pool
        DBOS.launch()
        try:
            yield
        finally:
            DBOS.destroy()


app = FastAPI(lifespan=lifespan)


@app.post("/v1/surveys/{survey_id}/vote", status_code=201)
async def vote(survey_id: str, ballot: Ballot, claims: Claims) -> Confirmation:
    """Record one vote; the second of a person is refused with 409."""
    with SetWorkflowID(f"{survey_id}/{claims['nullifier']}"):
        recorded = await submit_vote(survey_id, claims["nullifier"], ballot.model_dump_json())
    if not recorded:
        raise HTTPException(409, "already voted")
    return Confirmation(status="confirmed")
