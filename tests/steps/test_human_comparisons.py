"""A policy and its reference before people: exported, labeled, ingested, and in the evidence of the next run."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from rewardloop.cli.export_tasks import export_tasks
from rewardloop.config import Settings, SplitSettings, load_settings
from rewardloop.evidence import CorpusEvidence
from rewardloop.feedback.comparisons import ANSWERS
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore
from rewardloop.preferences.splits import NOT_RANDOM, place_rows
from rewardloop.snapshots import read_snapshot
from rewardloop.steps.load_corpus import load_corpus

KEY = b"a labeler key of the tests"
RUN, POLICY = "20261121T100000-c0ffee00-1a2b", "9f" * 32


def labeled(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A finished export. Label Studio numbers tasks itself and keeps their data.

    Labeler 1 prefers the policy on three of four prompts; labeler 2 labels half of them and calls each a tie; labeler 3
    skips everything.
    """
    export = []
    for task in tasks:
        data = task["data"]
        number = int(data["prompt"].removeprefix("question "))
        own, other = ("left", "right") if data["answer1"].startswith("aligned") else ("right", "left")
        side = {"type": "pairwise", "from_name": "comparison", "value": {"selected": other if number % 4 == 0 else own}}
        tie = {"type": "choices", "from_name": "tie", "to_name": "prompt", "value": {"choices": ["tie"]}}
        annotations = [{"completed_by": {"id": 1, "email": "anna@acme.org"}, "result": [side]}]
        if number % 2:
            annotations.append({"completed_by": 2, "result": [tie]})
        annotations.append({"completed_by": 3, "was_cancelled": True, "result": []})
        for place, annotation in enumerate(annotations):
            annotation |= {"id": 10 * number + place, "created_at": "2026-11-21T12:00:00Z"}
        export.append({"id": 4000 + number, "data": data, "annotations": annotations, "drafts": []})
    return export


def test_from_the_answers_of_a_policy_to_the_evidence(tmp_path: Path) -> None:
    config = tmp_path / "rewardloop.yaml"
    config.write_text(
        f"organization: acme\nhome: {tmp_path / 'home'}\nstore: {{url: {tmp_path / 'store'}}}\n"
        "model: {base: random:tiny}\n"
    )
    settings: Settings = load_settings(config, []).settings
    store = FeedbackStore.open(settings.store.url)
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("text,labeler,score\n" + "".join(f"text {n},anna,{n % 5}\n" for n in range(40)))
    ingest([ratings], store, settings, key=KEY)

    run = tmp_path / "home" / "runs" / RUN
    (run / "evidence").mkdir(parents=True)
    (run / "evidence" / "policy_evaluation.json").write_text("{}")
    rows = [
        {
            "prompt": [{"role": "user", "content": f"question {n}"}],
            "reference": f"plain answer {n}",
            "policy": f"aligned answer {n}",
        }
        for n in range(40)
    ]
    pl.DataFrame(rows, schema=ANSWERS).write_parquet(run / "policy-answers.parquet")
    (run / "policy-answers.json").write_text(json.dumps({"policy": POLICY, "run_id": RUN}))
    export_tasks("policy-comparison", 40, tmp_path / "tasks", config, None)

    finished = tmp_path / "project-7-at-2026-11-21.json"
    finished.write_text(json.dumps(labeled(json.loads((tmp_path / "tasks" / "tasks.json").read_text()))))
    said: list[str] = []
    report = ingest([finished], store, settings, key=KEY, say=said.append)
    assert "format label-studio-pairwise" in said[0]
    assert (report.rows_in, report.rows_taken, report.rows_quarantined, report.rows_duplicate) == (100, 60, 0, 0)
    assert report.skipped == {"skipped by their labeler": 40}
    assert report.labelers == 2

    corpus = store.current_corpus()
    store.write_corpus(corpus)
    load_corpus(store=store.storage.url, corpus_digest=corpus.digest, code_version="1", corpus=tmp_path / "out")
    evidence = CorpusEvidence.model_validate_json((tmp_path / "out" / "evidence" / "corpus.json").read_bytes())
    (found,) = evidence.comparisons
    assert (found.policy, found.run_id) == (POLICY, RUN)
    assert (found.prompts, found.labels, found.labelers) == (40, 60, 2)
    # Odd questions: a win and a tie; of the 20 even ones 10 are won and 10 lost.
    assert (found.wins, found.ties, found.losses) == (30, 0, 10)
    assert abs(found.win_rate.value - (20 * 0.75 + 10) / 40) < 1e-12
    assert found.win_rate.low < 0.625 < found.win_rate.high

    # What people compared is trained on, and never judged by.
    records = read_snapshot(tmp_path / "out").scan().collect().filter(sampling="comparison")
    splits = SplitSettings(train=0.4, validation=0.3, calibration=0.1, test=0.2)
    placed = place_rows(records, splits, frozenset())
    assert set(placed.filter(pl.col("why").is_null())["split"]) == {"train"}
    assert set(placed.filter(pl.col("split") != "train")["why"]) == {NOT_RANDOM}
