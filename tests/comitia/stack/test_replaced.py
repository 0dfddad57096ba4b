import pytest

from comitia.stack.replaced import read_replaced

KAFKA = {"COMITIA_CELLS__EU__KAFKA__PORT": "9092", "COMITIA_CELLS__US__KAFKA__PORT": "9092"}


def test_nothing_is_replaced_by_an_empty_environment() -> None:
    replaced = read_replaced({"COMITIA_ENVIRONMENT": "test", "PATH": "/bin"})
    assert all(replaced.needs(server) for server in ("database", "redis", "kafka", "temporal"))


def test_a_server_is_not_needed_once_every_cell_has_another() -> None:
    one, *_ = KAFKA
    assert read_replaced({one: KAFKA[one]}).needs("kafka")
    assert not read_replaced(KAFKA).needs("kafka")


def test_the_catalogue_and_the_platform_count_too() -> None:
    cells = {
        f"COMITIA_CELLS__{cell}__{server}__PORT": "1" for cell in ("EU", "US") for server in ("DATABASE", "TEMPORAL")
    }
    assert read_replaced(cells).needs("database")
    assert read_replaced(cells).needs("temporal")
    everything = {**cells, "COMITIA_CATALOGUE__PORT": "1", "COMITIA_PLATFORM_TEMPORAL__PORT": "1"}
    assert not read_replaced(everything).needs("database")
    assert not read_replaced(everything).needs("temporal")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("COMITIA_CELLS__EU__REDIS__HOST", "COMITIA_CELLS__EU__REDIS is given without a port"),
        ("COMITIA_CELLS__AP__REDIS__PORT", "names the cell 'ap'"),
        ("COMITIA_CATALOGUE__NAME", "COMITIA_CATALOGUE is given without a port"),
    ],
)
def test_half_an_address_is_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_replaced({name: "1"})


def test_passwords_are_read_by_role() -> None:
    assert read_replaced({"COMITIA_DATABASE_PASSWORDS__COMITIA_OWNER": "s"}).passwords == {"comitia_owner": "s"}
