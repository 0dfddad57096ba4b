"""What commands print to while something runs that has to be stopped in order."""

import os
import sys

from rich.console import Console


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
