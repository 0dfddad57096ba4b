"""The baseline *plain*: the voting service that FastAPI's documentation would have you write.

A pydantic model for the body, a dependency for the token (PyJWT), a pool in the lifespan, one insert per vote with a
unique constraint. It serves the path and body of Comitia's vote route and checks the same voting token; where that is
bound to a key, also the proof of possession. `BASELINE_DSN` names the database, `BASELINE_POOL_SIZE` its connections.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import FastAPI, Header, HTTPException, Request

from benchmarks.baselines.ballots import INSERT, Ballot, Confirmation
from benchmarks.baselines.voting_tokens import Claims, check_proof

POOL_SIZE = int(os.environ.get("BASELINE_POOL_SIZE", "20"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the pool while the application serves."""
    async with asyncpg.create_pool(os.environ["BASELINE_DSN"], min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/surveys/{survey_id}/vote", status_code=201)
async def vote(
    survey_id: str, ballot: Ballot, claims: Claims, request: Request, dpop: Annotated[str | None, Header()] = None
) -> Confirmation:
    """Record one vote; the second of a person is refused with 409."""
    if "cnf" in claims:
        await check_proof(request, claims, dpop)
    try:
        await request.app.state.pool.execute(INSERT, survey_id, claims["nullifier"], ballot.model_dump_json())
    except asyncpg.UniqueViolationError as error:
        raise HTTPException(409, "already voted") from error
    return Confirmation(status="confirmed")
