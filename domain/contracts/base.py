"""The shape of everything that histories and topics keep for years."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A frozen model; bytes travel as base64; unknown fields of a later release are ignored.

    Fields are only ever added, always with a default; none is renamed or retyped.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")
