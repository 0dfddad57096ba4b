"""`comitia verify receipt`: numbered checks, from a file and the log's keys alone."""

from pathlib import Path

from typer.testing import CliRunner, Result

from comitia.cli import app as command_line
from tests.log_world import VERIFIER_KEY
from tests.receipt_world import receipt


def verified(folder: Path, content: bytes) -> Result:
    (folder / "receipt.json").write_bytes(content)
    (folder / "keys.txt").write_text(f"{VERIFIER_KEY}\n")
    arguments = ["verify", "receipt", str(folder / "receipt.json"), "--key", str(folder / "keys.txt")]
    return CliRunner().invoke(command_line, arguments)


def test_a_receipt_is_checked_and_what_is_wrong_with_another_is_named(tmp_path: Path) -> None:
    whole = receipt().file
    good = verified(tmp_path, whole)
    assert good.exit_code == 0, good.output
    assert good.output.splitlines()[5].startswith("ok   6 the participation is in the batch: survey s_a")
    assert good.output.splitlines()[-1] == "This participation is recorded."
    bad = verified(tmp_path, whole.replace(b'"region":"north"', b'"region":"south"'))
    assert bad.exit_code == 1
    assert "FAIL 6 the participation is in the batch" in bad.output
    assert bad.output.splitlines()[-1] == "This receipt is NOT good."
    assert "FAIL 1 a receipt in the one form" in verified(tmp_path, b"{}").output
