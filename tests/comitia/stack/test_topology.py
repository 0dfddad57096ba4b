from pathlib import Path

import pytest
from pydantic import ValidationError

from comitia.stack.servers import Servers
from comitia.stack.state import StackState
from comitia.stack.topology import OtherTopologyError, Topology


def test_one_of_each_unless_asked_for() -> None:
    assert Topology() == Topology(temporal_server=False, kafka_brokers=1)


@pytest.mark.parametrize("brokers", [0, 2, 4])
def test_brokers_are_one_or_three(brokers: int) -> None:
    with pytest.raises(ValidationError, match=f"{brokers} brokers: 1 or 3"):
        Topology(kafka_brokers=brokers)


async def test_a_folder_is_not_opened_by_other_servers_than_made_it(servers: StackState, tmp_path: Path) -> None:
    made = servers.model_copy(update={"folder": tmp_path, "topology": Topology(temporal_server=True)})
    made.write()
    with pytest.raises(OtherTopologyError, match="made with production's Temporal and one Kafka broker"):
        await Servers(tmp_path, environment={}).__aenter__()
    with pytest.raises(OtherTopologyError, match="not with production's Temporal and 3 Kafka brokers"):
        await Servers(tmp_path, environment={}, topology=Topology(temporal_server=True, kafka_brokers=3)).__aenter__()
