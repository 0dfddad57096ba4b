from io import StringIO

from rich.console import Console

from comitia.demo.counters import CellCounters, Counters, percentiles
from comitia.demo.display import Display, outcome
from comitia.demo.events import LiveResults


def results(**votes: int) -> LiveResults:
    live = LiveResults("http://127.0.0.1:1", "s_1")
    options = [{"text": text, "votes": number} for text, number in votes.items()]
    live.document = {"totalResponses": sum(votes.values()), "questions": [{"options": options}]}
    return live


def test_a_terminal_shows_progress_and_bars_that_move() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=160, height=50)
    counters = Counters({"eu": CellCounters(confirmed=1500)})
    with Display(console, counters, results(Green=50, Labour=100), voters=2000) as shown:
        shown.refresh()
    drawn = screen.getvalue()
    assert "confirmed 1,500 of 2,000 | seen live 150" in drawn
    assert "Labour" in drawn
    assert drawn.index("Labour") < drawn.index("Green")
    assert "\u2588" * 40 in drawn


def test_elsewhere_there_is_a_line_now_and_then() -> None:
    said = StringIO()
    console = Console(file=said, width=160)
    with Display(console, Counters({"eu": CellCounters()}), results(), voters=10) as shown:
        shown.refresh()
        shown.refresh()
    lines = said.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("confirmed 0 of 10 | seen live 0 | ") for line in lines)


def test_the_last_table_adds_up_and_fits_a_narrow_screen() -> None:
    counters = Counters(
        {
            "eu": CellCounters(sent=106_000, unanswered=1, accepted=100_000, confirmed=100_000, again=2, refused=3),
            "us": CellCounters(sent=7, put_off=4, accepted=3, confirmed=3),
        }
    )
    said = StringIO()
    Console(file=said, width=80).print(outcome(counters, {"eu": 100_000, "us": 3}, 100_003))
    rows = [line.split() for line in said.getvalue().splitlines() if line.split()[:1] in (["eu"], ["us"], ["total"])]
    assert rows == [
        ["eu", "106,000", "1", "0", "100,000", "100,000", "2", "3", "100,000"],
        ["us", "7", "0", "4", "3", "3", "0", "0", "3"],
        ["total", "106,007", "1", "4", "100,003", "100,003", "2", "3", "100,003"],
    ]


def test_percentiles() -> None:
    assert percentiles([]) == (0.0, 0.0)
    assert percentiles([float(number) for number in range(100)]) == (50.0, 99.0)
