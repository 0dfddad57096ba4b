"""How many servers of each kind a stack on one machine has: one of each, or as in production where asked for."""

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

BROKERS = (1, 3)


class Topology(BaseModel):
    """What a folder was made for: its data lives in other servers under another topology."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temporal_server: bool = False  # production's Temporal on a PostgreSQL of its own, not the development server
    kafka_brokers: int = 1
    standby: bool = False  # every database in a pair of servers of its own, with an archive of its log
    temporal_standby: bool = False  # the same for the store of production's Temporal

    @field_validator("kafka_brokers")
    @classmethod
    def _a_quorum(cls, brokers: int) -> int:
        if brokers not in BROKERS:  # two cannot lose one, and more than three show nothing new on one machine
            raise ValueError(f"{brokers} brokers: 1 or 3")
        return brokers

    @model_validator(mode="after")
    def _a_store_of_its_own(self) -> "Topology":
        if self.temporal_standby and not self.temporal_server:
            raise ValueError("the development server of Temporal keeps a file: it has no standby")
        return self


class OtherTopologyError(ValueError):
    """The folder's data was made by other servers, which would be left out."""


def check_same(before: Topology, wanted: Topology) -> None:
    """See that a folder is opened as it was made: an accepted vote may be in a store that would not be asked.

    Raises:
        OtherTopologyError: it was not.
    """
    if before != wanted:
        raise OtherTopologyError(
            f"this folder was made with {_said(before)}, not with {_said(wanted)}: "
            "start it as before, or choose another with --data"
        )


def _said(topology: Topology) -> str:
    temporal = "production's Temporal" if topology.temporal_server else "Temporal's development server"
    brokers = "one Kafka broker" if topology.kafka_brokers == 1 else f"{topology.kafka_brokers} Kafka brokers"
    standbys = {"databases": topology.standby, "Temporal's store": topology.temporal_standby}
    with_standby = [name for name, has_one in standbys.items() if has_one]
    return f"{temporal} and {brokers}" + (f", standbys of {' and '.join(with_standby)}" if with_standby else "")
