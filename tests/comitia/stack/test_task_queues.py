from pathlib import Path

from comitia.stack import temporal

PORTS = {"temporal": 7233, "temporal-http": 7243, "temporal-metrics": 7253}
ONE = ("matching.numTaskqueueReadPartitions=1", "matching.numTaskqueueWritePartitions=1")


def command(folder: Path) -> set[str]:
    return set(temporal.process(folder, folder / "log", PORTS, ("eu",), ui=False).command)


def test_a_queue_has_one_partition_from_the_first_start_on(tmp_path: Path) -> None:
    assert command(tmp_path) >= set(ONE)
    (tmp_path / temporal.DATABASE).touch()
    assert command(tmp_path) >= set(ONE)


def test_tasks_of_data_that_was_made_with_several_are_still_found(tmp_path: Path) -> None:
    (tmp_path / temporal.DATABASE).touch()
    assert command(tmp_path).isdisjoint(ONE)
