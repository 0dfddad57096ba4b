"""The body of a vote as a pydantic model, and the table that both baselines insert into."""

from pydantic import BaseModel, ConfigDict

TABLE = """
CREATE TABLE IF NOT EXISTS plain_vote (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  survey_id text NOT NULL,
  nullifier text NOT NULL,
  answers text NOT NULL,
  cast_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT uq_plain_vote_survey_nullifier UNIQUE (survey_id, nullifier)
)"""
INSERT = "INSERT INTO plain_vote (survey_id, nullifier, answers) VALUES ($1, $2, $3)"


class Answer(BaseModel):
    """The answer to one question."""

    model_config = ConfigDict(extra="forbid")
    question: str
    options: list[str]
    text: str = ""


class Ballot(BaseModel):
    """The whole ballot."""

    model_config = ConfigDict(extra="forbid")
    answers: list[Answer]


class Confirmation(BaseModel):
    """The answer to a vote."""

    status: str
