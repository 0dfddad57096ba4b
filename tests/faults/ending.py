"""A survey's end: finished by staff, certified by itself, checked as anybody may, and compared with the notebook."""

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from comitia.cli import app as command_line
from comitia.demo.survey import PublishedElection
from tests.end_to_end.house import House
from tests.faults.papers import Papers, apart, certified_sums, published_papers, sums_of

FINISHED_WITHIN_S = 60.0
CERTIFIED_WITHIN_S = 90.0
_LOOK_EVERY_S = 0.2
_ASK_WITHIN_S = 10.0
_OVER = frozenset({"certified", "uncertified"})


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a survey's end: seconds from the request to the certificate, and what was not as it has to be."""

    certified_s: float | None
    problems: tuple[str, ...]


async def finish(house: House, survey: PublishedElection) -> bool:
    """Finish a survey by hand, asking again as long as nobody answers; tell whether it was finished in time."""
    path, deadline = f"/v1/internal/surveys/{survey.survey_id}/finish", time.monotonic() + FINISHED_WITHIN_S
    while time.monotonic() < deadline:
        answer = await _asked(house, "PUT", path)
        if answer is not None and answer.status_code == httpx.codes.OK:
            return True
        await asyncio.sleep(_LOOK_EVERY_S)
    return False


@dataclass(frozen=True, slots=True)
class Over:
    """The state of a survey's certification after which nothing more comes, and when it was seen; {}: never."""

    state: Mapping[str, Any]
    at: float


async def over(house: House, survey: PublishedElection) -> Over:
    """Wait until a finished survey is certified, or is known not to be.

    Only then its ledgers are final: what was accepted before the end is recorded after it where its process died.
    """
    path, deadline = f"/v1/internal/surveys/{survey.survey_id}/certification", time.monotonic() + CERTIFIED_WITHIN_S
    state: Mapping[str, Any] = {}
    while time.monotonic() < deadline:
        answer = await _asked(house, "GET", path)
        if answer is not None and answer.status_code == httpx.codes.OK:
            state = answer.json()
            if state["stage"] in _OVER:
                break
        await asyncio.sleep(_LOOK_EVERY_S)
    return Over(state, time.monotonic())


async def compared_end(house: House, survey: PublishedElection, end: Over, expected: Papers, *, since: float) -> Ended:
    """Check the certificate of a survey that is over, and compare it with the papers that it has to count."""
    state = end.state
    if state.get("stage") != "certified":
        found = "; ".join(f"{each['kind']} {each['row']} {each['detail']}" for each in state.get("differences", ()))
        return Ended(None, (f"not certified: {state.get('stage', 'no certification')} {found}".strip(),))
    took_s = end.at - since
    with tempfile.TemporaryDirectory(prefix="comitia-certificate-") as folder:
        files = await _fetched(house, survey, Path(folder))
        problems = [*await _verified(files), *_compared(files, expected)]
    return Ended(took_s, tuple(problems))


async def _asked(house: House, method: str, path: str) -> httpx.Response | None:
    try:
        return await house.clients["surveys"].request(method, path, headers=house.admin(), timeout=_ASK_WITHIN_S)
    except httpx.TransportError:
        return None


async def _fetched(house: House, survey: PublishedElection, folder: Path) -> dict[str, Path]:
    """Fetch what anybody may: the certificate, the keys, and every file of ballots."""
    client, base = house.clients["surveys"], f"/v1/surveys/{survey.survey_id}"
    urls = {"certificate": f"{base}/certificate", "keys": "/v1/certificate-keys"}
    listed = (await client.get(f"{base}/ballots")).raise_for_status().json()["files"]
    urls |= {f"ballots-{file['number']}": file["url"] for file in listed}
    found = {}
    for name, url in urls.items():
        found[name] = folder / name
        found[name].write_bytes((await client.get(url)).raise_for_status().content)
    return found


def _ballot_files(files: Mapping[str, Path]) -> list[Path]:
    return [path for name, path in files.items() if name.startswith("ballots-")]


async def _verified(files: Mapping[str, Path]) -> list[str]:
    """Return what `comitia verify certificate` does not find good."""
    arguments = ["verify", "certificate", str(files["certificate"]), "--key", str(files["keys"])]
    for path in _ballot_files(files):
        arguments += ["--ballots", str(path)]
    said = await asyncio.to_thread(CliRunner().invoke, command_line, arguments)
    if said.exit_code == 0:
        return []
    return [line for line in said.output.splitlines() if line.startswith(("FAIL", "not checked"))] or [said.output]


def _compared(files: Mapping[str, Path], expected: Papers) -> list[str]:
    """Return where published ballots or certified totals are not what the notebook says."""
    certificate = json.loads(files["certificate"].read_bytes())["certificate"]
    lines = [line for path in _ballot_files(files) for line in path.read_bytes().splitlines()]
    found = {
        "published ballots": apart(published_papers(lines), expected),
        "certified totals": apart(certified_sums(certificate["totals"]), sums_of(expected)),
        "certified participations": abs(certificate["participations"] - expected.total()),
    }
    return [f"{what} differ from the notebook by {count}" for what, count in found.items() if count]
