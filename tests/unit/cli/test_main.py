"""The command line: its overview costs next to nothing, and every command in it is there."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rewardloop.cli.main import _Commands, app

LIBRARIES = ("pydantic", "rich", "torch", "mlflow", "fastapi", "kfp", "yaml", "fsspec", "numpy")


def test_the_overview_imports_no_library_but_typer() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from rewardloop.cli.main import app\n"
        "shown = CliRunner().invoke(app, ['--help'])\n"
        "assert shown.exit_code == 0 and 'rollback' in shown.output, shown.output\n"
        f"print([name for name in {LIBRARIES} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(_Commands.table))
def test_each_command_has_help_of_its_own(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert f"Usage: rewardloop {name}" in shown.output
    assert len(shown.output.splitlines()) > 4


def test_a_misspelt_command_is_answered_with_the_right_one() -> None:
    shown = CliRunner().invoke(app, ["statsu"])
    assert shown.exit_code == 2
    assert "Did you mean 'status'?" in shown.output


def test_an_error_is_one_json_line_where_lines_are_json() -> None:
    environment = os.environ | {"REWARDLOOP_LOG_FORMAT": "json"}
    command = [sys.executable, "-m", "rewardloop.cli.main", "config", "check", "/nowhere/x.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert '"level": "error"' in done.stderr
    assert '"exit_code": 2' in done.stderr
    assert len(done.stderr.splitlines()) == 1
