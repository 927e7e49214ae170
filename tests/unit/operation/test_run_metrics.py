"""Figures for Prometheus: from a real store, in a format that its own parser reads."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from rewardloop.cli.main import app
from rewardloop.config import ClaimSettings, Settings
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claim_files import read_claims
from rewardloop.operation.claims import Claim, ClaimOutcome, Wanted, take
from rewardloop.operation.run_metrics import run_metrics
from rewardloop.operation.status_report import ChampionLine, DriftLine, PendingLabels, RunLine, StatusReport
from rewardloop.storage import Storage

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def report(**fields: object) -> StatusReport:
    empty = {
        "organization": "o", "at": NOW, "claims": [], "runs": [], "champions": [], "versions": [], "next_start": None,
        "drift": None, "problems": [], "pending": PendingLabels(batches=2, labels=17, needed=5, oldest_at=None),
    }  # fmt: skip
    return StatusReport.model_validate(empty | fields)


def figures(text: bytes) -> dict[str, float]:
    """Name and labels but the organization's -> value."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            assert sample.labels["organization"] == "o"
            rest = ",".join(f"{key}={value}" for key, value in sample.labels.items() if key != "organization")
            found[f"{sample.name}{{{rest}}}" if rest else sample.name] = sample.value
    return found


def finish(store: Storage, corpus: str, *, status: str, at: datetime) -> None:
    claim = take(store, ClaimSettings(), Wanted(corpus * 64, "f1" * 32, f"run-{corpus}", "by hand"))
    assert isinstance(claim, Claim)
    claim.close(ClaimOutcome(status=status, finished_at=at, report="r", run_id=f"run-{corpus}"))  # type: ignore[arg-type]


def test_last_success_and_outcomes_come_from_the_store(tmp_path: Path) -> None:
    store = Storage.open(str(tmp_path))
    finish(store, "a", status="blessed", at=NOW - timedelta(days=3))
    finish(store, "b", status="not blessed", at=NOW - timedelta(days=1))
    seen = figures(run_metrics(report(), read_claims(store, now=NOW)))
    assert seen["rewardloop_last_success_timestamp_seconds"] == (NOW - timedelta(days=1)).timestamp()
    blessed = "rewardloop_last_outcome_timestamp_seconds{outcome=blessed}"
    assert seen[blessed] == (NOW - timedelta(days=3)).timestamp()
    assert seen["rewardloop_trainings{outcome=blessed}"] == 1
    assert seen["rewardloop_claims{state=finished}"] == 2
    assert seen["rewardloop_pending_labels"] == 17


def test_champion_drift_and_failed_runs() -> None:
    champion = ChampionLine(
        model="o-reward", version="3", previous="2", threshold=0.1, since=(NOW - timedelta(hours=2)).isoformat(),
        who="maria", why="w", action="promote", forced=False,
    )  # fmt: skip
    run = RunLine(run_id="r", status="failed", started_at=NOW.isoformat(), seconds=1.0, reason="", report=None)
    drift = DriftLine(version="3", at=NOW, drifted=True, reasons=[])
    seen = figures(run_metrics(report(champions=[champion], runs=[run], drift=drift, problems=["x"]), []))
    assert seen["rewardloop_champion_age_seconds{model=o-reward,version=3}"] == 7200
    assert seen["rewardloop_recent_runs{outcome=failed}"] == 1
    assert seen["rewardloop_drifted"] == 1
    assert seen["rewardloop_status_problems"] == 1


def test_what_is_unknown_is_absent() -> None:
    seen = figures(run_metrics(report(), []))
    for name in ("last_success_timestamp_seconds", "drifted", "next_start_timestamp_seconds"):
        assert f"rewardloop_{name}" not in seen
    assert not [name for name in seen if "champion" in name]


@pytest.mark.parametrize("to_file", [False, True])
def test_the_command_on_a_real_store(tmp_path: Path, to_file: bool) -> None:
    content = {
        "organization": "o", "home": str(tmp_path / "home"), "store": {"url": str(tmp_path / "store")},
        "model": {"base": "random:tiny"},
    }  # fmt: skip
    config = tmp_path / "rewardloop.yaml"
    config.write_text(yaml.safe_dump(content))
    store = FeedbackStore.open(str(tmp_path / "store"))
    (tmp_path / "batch.csv").write_text("id,text,labeler,score\n" + "".join(f"{n},t {n},w,{n % 5}\n" for n in range(6)))
    ingest([tmp_path / "batch.csv"], store, Settings.model_validate(content), key=b"a labeler key of the tests")
    place = tmp_path / "rewardloop.prom"
    done = CliRunner().invoke(app, ["metrics", "-c", str(config), *(["--output", str(place)] if to_file else [])])
    assert done.exit_code == 0, (done.output, done.exception)
    seen = figures(place.read_bytes() if to_file else done.output.encode())
    assert seen["rewardloop_pending_labels"] == 6
    assert seen["rewardloop_trainings{outcome=blessed}"] == 0
    assert "rewardloop_next_start_timestamp_seconds" in seen
