"""`comitia verify`: what a third party checks, without any database of ours."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from domain.verification import (
    BallotLines,
    Check,
    UnreadableError,
    read_certificate,
    read_keys,
    verify_certificate,
)
from integrations.keys.signing import is_signed
from integrations.settings import is_loopback

_PIECE_BYTES = 1024 * 1024
_TIMEOUT_S = 30.0

app = typer.Typer(no_args_is_help=True, help="Check what was published.")


@app.callback()
def verify() -> None:
    """Keep the commands below a group, also while there is one."""


@app.command()
def certificate(
    source: Annotated[str, typer.Argument(metavar="FILE", help="The certificate: a file, or an address on loopback.")],
    key: Annotated[str, typer.Option("--key", help="The keys, as /v1/certificate-keys answers them.")],
    ballots: Annotated[
        list[str] | None, typer.Option("--ballots", help="A file of published ballots. Repeatable.")
    ] = None,
) -> None:
    """Check a survey's certificate: signature, digests, roots, and the totals from the published ballots.

    Exit 1 where anything does not hold. The keys must come from somewhere that whoever made the certificate does not
    control.
    """
    console = Console(soft_wrap=True)
    try:
        envelope = read_certificate(b"".join(_pieces(source)))
        keys = read_keys(b"".join(_pieces(key)))
        files = [BallotLines(name, _pieces(name)) for name in ballots or ()]
        checks = verify_certificate(envelope, keys, files, is_signed)
    except (OSError, UnreadableError, typer.BadParameter) as error:
        console.print(f"not checked: {error}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    show(checks, console)
    if not all(check.holds for check in checks):
        console.print("This certificate is NOT good.", markup=False, highlight=False)
        raise typer.Exit(1)
    survey = envelope["certificate"]["survey"]
    console.print(f"The certificate of {survey['id']} is good.", markup=False, highlight=False)


def show(checks: list[Check], console: Console) -> None:
    """Print one line per check."""
    for check in checks:
        console.print(
            f"{'ok  ' if check.holds else 'FAIL'} {check.name}: {check.detail}", markup=False, highlight=False
        )


def _pieces(source: str) -> Iterator[bytes]:
    """Return the pieces of a file or of an address on this machine.

    Raises:
        typer.BadParameter: an address elsewhere: fetch it with what you trust, and give the file.
    """
    if "://" not in source:
        with Path(source).open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
        return
    parts = urlsplit(source)
    if parts.scheme != "http" or not is_loopback(parts.hostname or ""):
        raise typer.BadParameter(f"only files, and http on loopback: {source}")
    with urllib.request.urlopen(source, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
        while piece := answer.read(_PIECE_BYTES):
            yield piece
