"""The shape of everything that histories and topics keep for years."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A frozen model; bytes travel as base64; unknown fields of a later release are ignored.

    Fields are only ever added, always with a default; none is renamed or retyped. `HOW` names those that say how
    something is carried out and nothing of what is decided: a replay by later code does not compare them.
    """

    HOW: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")
