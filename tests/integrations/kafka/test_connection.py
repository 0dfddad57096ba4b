import pytest
from pydantic import ValidationError

from integrations.addresses import KafkaAddress
from integrations.kafka.connection import connection_options
from integrations.settings import Environment, Settings

CELL: dict[str, dict[str, int | str]] = {
    "database": {"port": 1, "name": "eu"},
    "redis": {"port": 2},
    "temporal": {"port": 3, "namespace": "eu"},
}


def test_clients_are_given_every_bootstrap_broker() -> None:
    address = KafkaAddress(host="one", port=9092, others="two:9092,three:9093")
    assert connection_options(address)["bootstrap_servers"] == ["one:9092", "two:9092", "three:9093"]
    assert connection_options(KafkaAddress(port=9092))["bootstrap_servers"] == ["127.0.0.1:9092"]


@pytest.mark.parametrize("others", ["two", "two:", ":9092", "two:9092,three"])
def test_a_broker_without_host_or_port_is_refused(others: str) -> None:
    with pytest.raises(ValidationError, match="is not host:port"):
        KafkaAddress(port=9092, others=others)


def test_brokers_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for server, values in CELL.items():
        for name, value in values.items():
            monkeypatch.setenv(f"COMITIA_CELLS__EU__{server.upper()}__{name.upper()}", str(value))
    monkeypatch.setenv("COMITIA_CELLS__EU__KAFKA__PORT", "9092")
    monkeypatch.setenv("COMITIA_CELLS__EU__KAFKA__OTHERS", "127.0.0.1:9094,127.0.0.1:9096")
    assert Settings().cells["eu"].kafka.bootstrap == ("127.0.0.1:9092", "127.0.0.1:9094", "127.0.0.1:9096")


def test_production_refuses_plaintext_to_any_of_them() -> None:
    kafka = {"port": 9092, "others": "127.0.0.1:9094,away:9092"}
    with pytest.raises(ValidationError, match="plaintext between hosts: away:9092"):
        Settings(environment=Environment.PRODUCTION, cells={"eu": {**CELL, "kafka": kafka}})
