"""What the README tells a newcomer to type works, to the letter but for addresses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from comitia.stack.applications import API
from tests.end_to_end.house import House

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"<!-- tests/comitia/test_readme.py runs this block -->\n```sh\n(.*?)```", re.DOTALL)
LIMIT_S = 90


@pytest.fixture
def script(house: House) -> str:
    found = BLOCK.findall(README)
    assert len(found) == 1
    text: str = found[0].replace(".venv/bin/comitia", f"{sys.executable} -m comitia.cli")
    for application in API:
        text = text.replace(f"http://127.0.0.1:{application.port}/", f"{house.supervisor.url(application.service)}/")
    assert not re.search(r"127\.0\.0\.1:81\d\d", text)
    return text


def test_the_commands_of_five_minutes(script: str, house: House) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, "COMITIA_DATA": str(house.state.folder)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    first, second = (json.loads(line) for line in lines if '"receipt"' in line)
    assert first["status"] == second["status"] == "confirmed"
    assert first["receipt"] == second["receipt"]
    assert second["replayed"] is True
    assert "event: results" in lines
    results = json.loads(lines[-1])
    assert results["totalResponses"] == 1
    assert [(option["text"], option["votes"]) for option in results["questions"][0]["options"]] == [
        ("Soup", 0),
        ("Salad", 1),
    ]


def test_every_path_that_the_readme_names_is_there() -> None:
    named = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"^\| `([a-z]+/)` \|", README, re.MULTILINE)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
