"""``rewardloop drift`` on a registered version: what it says, what it writes, and how it ends."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from rewardloop.cli.drift import drift
from rewardloop.errors import BadInputError
from rewardloop.evaluation.reference import REFERENCE, REFERENCE_FILE
from rewardloop.operation.drift_reports import latest_drift
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from tests.logged import decision, write_decisions
from tests.registered import Candidate, make_candidate

NOW = datetime.now(UTC)


def reference(count: int = 300) -> pl.DataFrame:
    """Scores spread evenly from -1 to 1, accepted from 0 on."""
    scores = np.linspace(-1, 1, count)
    return pl.DataFrame(
        {
            "score": scores,
            "decision": np.where(scores >= 0, "accept", "block"),
            "prompt_characters": [0] * count,
            "response_characters": [5] * count,
            "segment": [None] * count,
            "split": ["calibration", "test"] * (count // 2),
        },
        schema=REFERENCE,
    )


@pytest.fixture(scope="module")
def registered(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """Version 1 with a reference, and a version 1 of another organization without."""
    folder = tmp_path_factory.mktemp("drift")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REWARDLOOP_HOME", str(folder / "home"))
        made = make_candidate(folder, tiny_base, connect(None, folder / "home", 5))
        old = Candidate(folder, made.tracking_uri, organization="old-reviews")
        old.register(output="old", store=str(folder / "old store"))
        reference().write_parquet(folder / "evaluation" / REFERENCE_FILE)
        made.register()
    return made


def config(registered: Candidate, folder: Path, *, organization: str = "film-reviews", store: str = "") -> Path:
    path = folder / "rewardloop.yaml"
    path.write_text(
        f"organization: {organization}\nhome: {folder / 'home'}\nmodel: {{base: random:tiny}}\n"
        f"store: {{url: {store or registered.store}}}\ntracking: {{uri: '{registered.tracking_uri}'}}\n"
        "notifications: {events: []}\n"
    )
    return path


def log(registered: Candidate, name: str, scores: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
    records = [
        decision(NOW - timedelta(hours=1), version="1", score=score, decision="accept" if score >= 0 else "block")
        for score in scores.tolist()
    ]
    write_decisions(Storage.open(registered.store), f"{NOW:%Y-%m-%d}/{name}.jsonl", *records)


def test_few_decisions_then_none_that_drifted_then_drift(
    registered: Candidate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(registered, tmp_path)
    storage = Storage.open(registered.store)
    drift(path, None)
    said = capsys.readouterr().out
    assert "film-reviews-reward version 1: 0 decisions since" in said
    assert "too few decisions to say more: 0 are logged, 200 are needed (drift.min_decisions)" in said
    assert "set serving.log.sample" in said
    first = latest_drift(storage)
    assert first is not None
    assert (first.version, first.drifted, first.enough) == ("1", False, False)

    log(registered, "as-before", np.linspace(-1, 1, 400))
    page = tmp_path / "new" / "drift.html"
    drift(path, None, report=page)
    said = capsys.readouterr().out
    assert "film-reviews-reward version 1: no drift.\n" in said
    assert "accepted share  all               then 50.0% (44.2% to 55.8%), now 50.0%" in said
    html = page.read_text()
    assert "no drift." in html
    assert "<script" not in html
    assert "<svg" in html

    log(registered, "worse", np.linspace(-3, -0.5, 600))
    write_decisions(storage, f"{NOW:%Y-%m-%d}/broken.jsonl", "<b>half a line")
    with pytest.raises(typer.Exit) as ended:
        drift(path, None, report=page)
    assert ended.value.exit_code == 4
    said = capsys.readouterr()
    assert "DRIFTED" in said.out
    assert "answers have drifted" in said.out
    assert f"decisions/{NOW:%Y-%m-%d}/broken.jsonl:1" in said.err
    newest = latest_drift(storage)
    assert newest is not None
    assert newest.drifted
    assert (newest.decisions, newest.reference) == (1000, 300)
    assert {line.what for line in newest.distributions if line.drifted} == {"score", "decision"}
    assert any(reason.startswith("score: population stability index") for reason in newest.reasons)
    assert len(list((tmp_path / "home" / "drift").glob("1-*.html"))) == 1

    app = typer.Typer()
    app.command("drift")(drift)
    assert CliRunner().invoke(app, ["-c", str(path), "--days", "7"]).exit_code == 4
    # The decisions are an hour old.
    assert CliRunner().invoke(app, ["-c", str(path), "--days", "0.01"]).exit_code == 0


def test_what_cannot_be_compared_is_refused(registered: Candidate, tmp_path: Path) -> None:
    path = config(registered, tmp_path)
    with pytest.raises(BadInputError, match="no version or alias '9'"):
        drift(path, None, version="9")
    with pytest.raises(BadInputError, match=r"--days 1e.12: is before the calendar begins"):
        drift(path, None, days=1e12)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"--report .*file/page.html: .*; name a file that can be written"):
        drift(path, None, report=tmp_path / "file" / "page.html")
    old = config(registered, tmp_path, organization="old-reviews", store=str(registered.folder / "old store"))
    with pytest.raises(BadInputError, match=r"was registered without reference.parquet.* --again REASON"):
        drift(old, None)
