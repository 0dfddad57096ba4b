"""What settings are made of."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A part of the settings: it does not change, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
