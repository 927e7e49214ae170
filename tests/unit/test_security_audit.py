"""An audit that could not ask says so, and never that all is well."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

_PLACE = Path(__file__).parents[2] / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", _PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_index_answers(audit: Any) -> None:
    code, (line,) = audit.verdict(None, "ConnectionError: refused")
    assert (code, line) == (0, "audit: skipped: no vulnerability database (ConnectionError: refused)")


def test_an_index_that_knows_nothing_is_no_clean_bill(audit: Any) -> None:
    """As pip-audit reports it from a mirror without vulnerabilities; its own last line is then that there are none."""
    report = {"dependencies": [{"name": "requests", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}
    code, (line,) = audit.verdict(report)
    assert code == 0
    assert line.startswith("audit: skipped: no vulnerability database")


def test_a_vulnerability_is_named_and_fails(audit: Any) -> None:
    known = {"id": "PYSEC-2018-28", "fix_versions": ["2.20.0"], "aliases": ["CVE-2018-18074"], "description": "..."}
    report = {
        "dependencies": [
            {"name": "requests", "version": "2.19.0", "vulns": [known]},
            {"name": "own", "skip_reason": "not found"},
            {"name": "sound", "version": "1", "vulns": []},
        ]
    }
    code, lines = audit.verdict(report)
    assert code == 1
    assert lines == [
        "requests 2.19.0: PYSEC-2018-28, mended in 2.20.0",
        "audit: not asked about 1: own",
        "audit: 1 known vulnerabilities in 2 packages",
    ]


def test_nothing_found_is_said_with_the_number_asked(audit: Any) -> None:
    report = {"dependencies": [{"name": "sound", "version": "1", "vulns": []}]}
    assert audit.verdict(report) == (0, ["audit: 0 known vulnerabilities in 1 packages"])


def test_the_real_tool_without_a_network(audit: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    pins = tmp_path / "pins.txt"
    pins.write_text("requests==2.19.0\n")
    assert audit.main(str(pins)) == 0
    assert capsys.readouterr().out.startswith("audit: skipped: no vulnerability database (")
