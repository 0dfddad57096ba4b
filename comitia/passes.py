"""`comitia sign-in` and `comitia request`: people of staff use the API from a terminal, also in production.

Who they are is proved in their browser, at the console; what comes here is a pass for a key that never leaves this
machine.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Final, NoReturn
from urllib.parse import urlsplit

import typer

from integrations.keys.dpop_keys import ProofKey, make_proof

_TIMEOUT_S: Final = 60.0

PassFile = Annotated[Path, typer.Option("--pass", help="Where the pass and its key are kept, for you alone.")]
PASS_FILE: Final = Path(".comitia-pass")


def sign_in(
    console: Annotated[str, typer.Argument(help="The console's address, as https://staff.example.org/console.")],
    *,
    kept: PassFile = PASS_FILE,
) -> None:
    """Get a pass from a console: for 15 minutes `comitia request` does as you what you can do there."""
    key = ProofKey.generate()
    typer.echo(f"Open this page in your browser, and paste here what it gives you:\n{_page(console, key)}", err=True)
    given = typer.prompt("Pass", err=True).strip()
    if not given.isascii() or not given.isprintable() or " " in given:
        _refuse("sign-in", "this is no pass")
    kept.unlink(missing_ok=True)
    with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        json.dump({"token": given, "key": key.private_jwk}, file)


def request(
    method: Annotated[str, typer.Argument(help="GET, POST, ...")],
    address: Annotated[str, typer.Argument(help="Of a service's API, as its clients reach it.")],
    *,
    body: Annotated[
        Path | None, typer.Option(exists=True, allow_dash=True, help="A file of JSON to send, or - for what comes in.")
    ] = None,
    header: Annotated[list[str] | None, typer.Option(help="As `Idempotency-Key: ...`. Repeatable.")] = None,
    kept: PassFile = PASS_FILE,
) -> None:
    """Send one request with the pass of `comitia sign-in`, and print what is answered; exit 1 where that is a no."""
    try:
        told = json.loads(kept.read_text(encoding="ascii"))
        token, key = told["token"], ProofKey.from_private_jwk(told["key"])
    except (OSError, ValueError, KeyError):
        _refuse("request", f"no pass in {kept}: `comitia sign-in` gets one")
    content = b"" if body is None else sys.stdin.buffer.read() if str(body) == "-" else body.read_bytes()
    method = method.upper()
    headers = {
        **({"Content-Type": "application/json"} if content else {}),
        **dict(_split(line) for line in header or []),
        "Authorization": f"DPoP {token}",
        "DPoP": make_proof(key, method, address.partition("?")[0], time.time(), token=token, body=content),
    }
    import httpx  # noqa: PLC0415 - each command loads what it needs

    try:
        answer = httpx.request(method, address, content=content, headers=headers, timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        _refuse("request", str(error) or type(error).__name__)
    sys.stdout.buffer.write(answer.content)
    sys.stdout.flush()
    if answer.is_error:
        _refuse("request", f"answered {answer.status_code}")


def _page(console: str, key: ProofKey) -> str:
    parts = urlsplit(console)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise typer.BadParameter("is no http(s) address of a console", param_hint="CONSOLE")
    return f"{console.rstrip('/')}/pass?key={key.jkt}"


def _split(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter(f"{line!r} is no header", param_hint="--header")
    return name.strip(), value.strip()


def _refuse(command: str, why: str) -> NoReturn:
    typer.echo(f"comitia {command}: {why}", err=True)
    raise typer.Exit(1)
