"""``rewardloop export-tasks --kind uncertain`` with two registered versions: what it picks, writes and refuses."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewardloop.cli.export_tasks import export_tasks
from rewardloop.cli.ingest import ingest
from rewardloop.errors import BadInputError
from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.uncertain import LABELING_CONFIG
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.registry import load_scorer
from tests.logged import decision, write_decisions
from tests.registered import Candidate, bless, make_candidate, write

NOW = datetime.now(UTC)
TEXTS = [f"Film number {number} is {'fine' if number % 2 else 'dull'}." for number in range(30)]


@pytest.fixture(scope="module")
def champion(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """Version 1, then version 2 of other weights, which is the champion; each accepts half of the texts."""
    folder = tmp_path_factory.mktemp("uncertain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REWARDLOOP_HOME", str(folder / "home"))
        first = make_candidate(folder, tiny_base, connect(None, folder / "home", 5))
        accept_half(first)
        first.register()
        second = Candidate(folder / "second", first.tracking_uri)
        make_candidate(second.folder, tiny_base, first.tracking_uri, seed=2)
        accept_half(second)
        bless(second, champion="1")
        second.register(store=first.store)
    return first


def accept_half(candidate: Candidate) -> None:
    """Put the threshold in the middle of the texts' scores."""
    scoring, parity = (candidate.folder / "evaluation" / name for name in ("scoring.json", "parity.json"))
    shutil.copyfile(scoring, candidate.folder / "reward_model" / "scoring.json")
    scores = RewardScorer.load(candidate.folder / "reward_model").score([[]] * len(TEXTS), TEXTS)
    threshold = float(np.median(scores))
    write(scoring, json.loads(scoring.read_text()) | {"threshold": threshold})
    fixture = json.loads(parity.read_text())
    write(parity, fixture | {"allowed": [score >= threshold for score in fixture["scores"]]})


def config(champion: Candidate, folder: Path, store: str, more: str = "") -> Path:
    path = folder / "rewardloop.yaml"
    path.write_text(
        f"organization: film-reviews\nhome: {folder / 'home'}\nmodel: {{base: random:tiny}}\nstore: {{url: {store}}}\n"
        "splits: {train: 1.0, validation: 0.0, calibration: 0.0, test: 0.0, anchors: 4}\n"
        f"tracking: {{uri: '{champion.tracking_uri}'}}\n{more}"
    )
    return path


def log(champion: Candidate, store: str, *, texts: bool = True) -> None:
    """What version 2 decided, as it is served."""
    scorer = load_scorer(f"models:/{champion.name}/2", champion.tracking_uri)
    scores = scorer.score([[]] * len(TEXTS), TEXTS)
    assert scorer.threshold is not None
    records = [
        decision(
            NOW,
            text,
            version="2",
            score=float(score),
            threshold=scorer.threshold,
            decision=str(decided),
            texts=texts,
        )
        for text, score, decided in zip(TEXTS, scores, scorer.decisions(scores), strict=True)
    ]
    write_decisions(Storage.open(store), f"{NOW:%Y-%m-%d}/a.jsonl", *records)


def export(path: Path, output: Path, count: int, *, again: bool = False) -> list[dict[str, Any]]:
    export_tasks("uncertain", count, output, path, None, again=again)
    tasks: list[dict[str, Any]] = json.loads((output / "tasks.json").read_text())
    return tasks


def test_the_champions_answers_are_picked_and_their_labels_come_back(
    champion: Candidate, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(champion, tmp_path, champion.store, "validation: {min_groups_per_batch: 1}\n")
    with pytest.raises(BadInputError, match=r"none is logged; .* serving.log.texts: true"):
        export(path, tmp_path / "none", 10)
    log(champion, champion.store, texts=False)
    with pytest.raises(BadInputError, match=r"30 decisions are logged, all without texts; .*serving.log.texts: true"):
        export(path, tmp_path / "none", 10)
    assert not (tmp_path / "none").exists()

    log(champion, champion.store)
    tasks = export(path, tmp_path / "out", 10)
    said = capsys.readouterr().out
    assert len(tasks) == 10
    assert len({task["data"]["task"] for task in tasks}) == 10
    assert (tmp_path / "out" / "labeling-config.xml").read_text() == LABELING_CONFIG
    assert "10 answers decided by film-reviews-reward/2: " in said
    # What the two versions decide is known here.
    first, second = (load_scorer(f"models:/{champion.name}/{n}", champion.tracking_uri) for n in (1, 2))
    decided = [scorer.decisions(scorer.score([[]] * len(TEXTS), TEXTS)) for scorer in (first, second)]
    otherwise = {text for text, old, new in zip(TEXTS, *decided, strict=True) if old != new}
    assert otherwise
    divided = min(5, len(otherwise))
    assert f"{10 - divided} nearest the threshold, {divided} that the previous champion decides otherwise" in said
    assert {task["data"]["response"] for task in tasks[:divided]} <= otherwise
    assert f"rewardloop ingest EXPORT.json -c {path}" in said

    others = export(path, tmp_path / "next", 10)
    assert not {task["data"]["response"] for task in others} & {task["data"]["response"] for task in tasks}
    assert "left out: 10 (exported before)" in capsys.readouterr().out
    assert export(path, tmp_path / "again", 10, again=True) == tasks

    annotation = {"completed_by": 3, "result": [{"type": "choices", "value": {"choices": ["acceptable"]}}]}
    done = tmp_path / "export.json"
    done.write_text(json.dumps([{**task, "annotations": [annotation]} for task in tasks]))
    monkeypatch.setenv("REWARDLOOP_LABELER_KEY", "a key of the tests")
    ingest([done], path)
    assert "format label-studio-verdicts (its tasks are those of rewardloop export-tasks" in capsys.readouterr().out
    store = FeedbackStore.open(champion.store)
    (batch,) = store.batches()
    assert store.read_batch(batch.digest)["sampling"].unique().to_list() == ["active"]
    assert store.golden_documents() == set()


def test_a_run_belongs_to_the_other_kind(champion: Candidate, tmp_path: Path) -> None:
    path = config(champion, tmp_path, champion.store)
    with pytest.raises(BadInputError, match="--run: belongs to --kind policy-comparison"):
        export_tasks("uncertain", 4, tmp_path / "out", path, None, run="20261101T080000-aaaaaaaa-0001")
    with pytest.raises(BadInputError, match="--again: belongs to --kind uncertain"):
        export_tasks("policy-comparison", 4, tmp_path / "out", path, None, again=True)
