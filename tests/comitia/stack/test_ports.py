import itertools
import socket

from comitia.stack import ports


def test_a_taken_port_is_replaced_and_said() -> None:
    said: list[str] = []
    with socket.create_server((ports.HOST, 0)) as taken:
        number = taken.getsockname()[1]
        chosen = ports.choose(["api-votes"], {"api-votes": number}, said.append)
    assert chosen["api-votes"] != number
    assert said == [f"port {number} of api-votes is taken: using {chosen['api-votes']}"]


def test_a_free_port_is_given_as_wanted() -> None:
    wanted = ports.free_port(())
    assert ports.choose(["kafka"], {"kafka": wanted}) == {"kafka": wanted}


def test_no_port_is_given_twice() -> None:
    wanted = ports.free_port(())
    chosen = ports.choose(["kafka", "redis", "postgres"], {"kafka": wanted, "redis": wanted})
    assert len(set(chosen.values())) == 3


def test_free_ports_of_one_stack_are_near_each_other() -> None:
    chosen = sorted(ports.choose([str(number) for number in range(20)], {}).values())
    assert len(set(chosen)) == 20
    gaps = [later - earlier for earlier, later in itertools.pairwise(chosen)]
    assert sorted(gaps)[-2] <= 200  # but for one that begins at the range's start again
