"""Printing to a reader who leaves."""

import subprocess
import sys

TALKS = """
import sys
from comitia.terminal import Terminal

terminal = Terminal()
terminal.print("first")
for _ in range(10_000):
    terminal.print("more")
print("stopped in order", file=sys.stderr)
"""


def test_what_runs_goes_on_where_nobody_reads_any_more() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TALKS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as talking:
        assert talking.stdout is not None
        assert talking.stderr is not None
        assert talking.stdout.readline() == "first\n"
        talking.stdout.close()
        assert talking.stderr.read() == "stopped in order\n"
        assert talking.wait(timeout=20) == 0
