"""What commands print to while something runs that has to be stopped in order."""

import os
import sys

from rich.console import Console


def inert(text: str) -> str:
    """Return one line in which nothing steers a terminal or begins another line; the code of such a character shows.

    What others wrote is shown so: a file that is checked could draw a good result over a bad one.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


class Terminal(Console):
    """A console whose reader may leave, as `head` does: what is said then goes nowhere, and the command goes on."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Be quiet from now on: an exit in the middle would leave servers running."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
