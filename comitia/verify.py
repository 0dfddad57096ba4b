"""`comitia verify`: what a third party checks, without any database of ours."""

import asyncio
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import typer
from rich.console import Console

from comitia.audit import compare
from comitia.log_copy import LogFolder
from comitia.terminal import inert
from domain.bundle_verification import read_bundle_keys, verify_bundle
from domain.checkpoints import read_verifier_keys
from domain.errors import DomainError
from domain.log_proofs import read_proof, verify_entry
from domain.log_verification import verify_log
from domain.receipts import verify_receipt
from domain.stored_zip import BYTES_MAX
from domain.verification import (
    BallotLines,
    Check,
    UnreadableError,
    read_certificate,
    read_keys,
    verify_certificate,
)
from integrations.addresses import is_loopback
from integrations.keys.signing import is_signed

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
        envelope = read_certificate(_whole(source))
        keys = read_keys(_whole(key))
        files = [BallotLines(name, _pieces(name)) for name in ballots or ()]
        checks = verify_certificate(envelope, keys, files, is_signed)
    except (OSError, UnreadableError, typer.BadParameter) as error:
        _say(console, f"not checked: {error}")
        raise typer.Exit(1) from None
    show(checks, console)
    if not all(check.holds for check in checks):
        _say(console, "This certificate is NOT good.")
        raise typer.Exit(1)
    survey = envelope["certificate"]["survey"]
    _say(console, f"The certificate of {survey['id']} is good.")


@app.command()
def log(
    *,
    folder: Annotated[Path, typer.Argument(help="A copy of one log, with `tile` and `checkpoints` in it.")],
    key: Annotated[str, typer.Option("--key", help="The log's keys, one a line, as `comitia audit keys` prints them.")],
    heads: Annotated[
        list[Path] | None,
        typer.Option("--head", help="A tree head that came another way: the log has to continue it. Repeatable."),
    ] = None,
    against_database: Annotated[
        str, typer.Option("--against-database", metavar="LOG", help="Compare with the entries of this cell, too.")
    ] = "",
    data: Annotated[
        Path, typer.Option("--data", envvar="COMITIA_DATA", help="The folder of the running stack.")
    ] = Path(".comitia"),
) -> None:
    """Check an audit log from its files alone: signatures, entries, tiles, and that each tree head continues the last.

    Exit 1 where anything does not hold; the first entry that differs is named. The keys must come from somewhere that
    whoever keeps the log does not control.
    """
    console, files = Console(soft_wrap=True), LogFolder(folder)
    try:
        kept = [_whole(head) for head in heads or ()]
        checks, newest = verify_log(files, _log_keys(key), is_signed, kept)
        if against_database and newest is not None and all(check.holds for check in checks):
            checks += asyncio.run(compare(files, newest.size, against_database, data))
    except (OSError, ValueError, LookupError, DomainError, typer.BadParameter) as error:
        _say(console, f"not checked: {error}")
        raise typer.Exit(1) from None
    show(checks, console)
    if newest is None or not all(check.holds for check in checks):
        _say(console, "This log is NOT good.")
        raise typer.Exit(1)
    _say(console, f"The log {newest.origin} is good: {newest.size:,} entries.")


@app.command()
def entry(
    *,
    file: Annotated[Path, typer.Argument(metavar="ENTRY", help="The entry, as `comitia audit prove` writes it.")],
    proof: Annotated[Path, typer.Option("--proof", help="Its proof (C2SP tlog-proof).")],
    key: Annotated[str, typer.Option("--key", help="The log's keys, one a line, as `comitia audit keys` prints them.")],
) -> None:
    """Check that one entry is in an audit log: the signature of the tree head, and the way up to its root."""
    _report(
        lambda: verify_entry(_whole(file), read_proof(_whole(proof)), _log_keys(key), is_signed),
        good="This entry is in the log.",
        bad="This entry is NOT in the log.",
    )


@app.command()
def receipt(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As /v1/submissions/{id}/proof answers it.")],
    key: Annotated[str, typer.Option("--key", help="The log's keys, one a line, as /v1/log-keys answers them.")],
) -> None:
    """Check that a participation is recorded: the way to its batch's root, and on to a signed tree head.

    It says nothing of the choice, since the file does not either. The keys must come from somewhere that whoever keeps
    the log does not control.
    """
    _report(
        lambda: verify_receipt(_whole(file), _log_keys(key), is_signed),
        good="This participation is recorded.",
        bad="This receipt is NOT good.",
    )


@app.command()
def bundle(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An evidence bundle.")],
    keys: Annotated[str, typer.Option("--keys", help="The keys, as `comitia evidence keys` prints them.")],
) -> None:
    """Check the evidence of a case: its signature, every file, its audit entries, and that they say what was decided.

    Exit 1 where anything does not hold. The keys must come from somewhere that whoever made the bundle does not
    control.
    """
    _report(
        lambda: verify_bundle(_whole(file), read_bundle_keys(_whole(keys)), is_signed),
        good="This bundle is good.",
        bad="This bundle is NOT good.",
    )


def _report(verify: Callable[[], list[Check]], *, good: str, bad: str) -> None:
    """Print every check and what they come to; exit 1 where one does not hold, or nothing could be checked."""
    console = Console(soft_wrap=True)
    try:
        checks = verify()
    except (OSError, ValueError, typer.BadParameter) as error:
        _say(console, f"not checked: {error}")
        raise typer.Exit(1) from None
    show(checks, console)
    holds = all(check.holds for check in checks)
    _say(console, good if holds else bad)
    if not holds:
        raise typer.Exit(1)


def _log_keys(source: str) -> dict[tuple[str, bytes], bytes]:
    return read_verifier_keys(_whole(source).decode().splitlines())


def show(checks: list[Check], console: Console) -> None:
    """Print one line per check, numbered."""
    for number, check in enumerate(checks, start=1):
        _say(console, f"{'ok  ' if check.holds else 'FAIL'} {number} {check.name}: {check.detail}")


def _say(console: Console, text: str) -> None:
    """Print one line as it is: what it quotes comes from files of others."""
    console.print(inert(text), markup=False, highlight=False)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect what it is: an answer without the file, which is an error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Go nowhere."""
        return


def _whole(source: str | Path) -> bytes:
    """Return what a file or an address on this machine has, up to the size of a bundle, the largest of what is made.

    Raises:
        typer.BadParameter: it has more, or no end; and as `_pieces`.
    """
    pieces, size = list[bytes](), 0
    for piece in _pieces(str(source)):
        pieces.append(piece)
        size += len(piece)
        if size > BYTES_MAX:
            raise typer.BadParameter(f"larger than anything that is checked: {source}")
    return b"".join(pieces)


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
    # Neither a redirect nor a proxy: either would bring what is elsewhere
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
    try:
        with opener.open(source, timeout=_TIMEOUT_S) as answer:
            while piece := answer.read(_PIECE_BYTES):
                yield piece
    except HTTPError as error:
        error.close()  # it is the answer, too
        raise
