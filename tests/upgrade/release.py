"""The release before this one, as it was stored: its own processes and migrations, from a folder of their own."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from comitia.stack.applications import APPLICATIONS, Application
from comitia.stack.source import Source
from integrations.addresses import DatabaseAddress
from integrations.postgres.migrate import Tree

ARCHIVE = Path(__file__).with_name("release.tar.xz")
_MIGRATE = """
import json, sys
from pydantic import SecretStr
from integrations.postgres.migrate import Tree, migrate
from integrations.settings import DatabaseAddress
given = json.load(sys.stdin)
print(migrate(DatabaseAddress(**given["address"]), SecretStr(given["password"]), Tree(given["tree"])))
"""


@dataclass(frozen=True)
class Release:
    """An unpacked release: `commit` is where it was made from."""

    folder: Path
    commit: str

    @property
    def source(self) -> Source:
        return Source(f"release-{self.commit[:12]}", self.folder)

    @property
    def applications(self) -> tuple[Application, ...]:
        """The processes that it has, of those that we know."""
        return tuple(application for application in APPLICATIONS if self._has(application))

    def _has(self, application: Application) -> bool:
        package = self.folder / application.package
        return any((package / name).exists() for name in (application.service, f"{application.service}.py"))

    def migrate(self, address: DatabaseAddress, password: SecretStr, tree: Tree) -> str:
        """Bring a database to this release's newest revision; return it.

        It is told no more than it has to know: a setting that came later is for processes that came with it.
        """
        given = {
            "address": address.model_dump(mode="json", exclude_defaults=True),
            "password": password.get_secret_value(),
            "tree": tree,
        }
        done = subprocess.run(
            [sys.executable, "-c", _MIGRATE],
            cwd=self.folder,
            env=without_coverage(os.environ),
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def unpack(folder: Path) -> Release:
    """Unpack the stored release into a folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
        return Release(folder, archive.pax_headers["comment"])


def without_coverage(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which nobody measures another release's code as ours."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
