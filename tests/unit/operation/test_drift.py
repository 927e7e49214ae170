"""Drift: the index and its bins by hand, what counts as drift and what does not, and what is kept of it."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2_contingency

from benchmarks.drift import measure
from rewardloop.config import DriftSettings, EvaluationSettings
from rewardloop.errors import BadInputError
from rewardloop.evaluation.reference import REFERENCE, reference_sample
from rewardloop.operation.decisions import DECISIONS, read_decisions
from rewardloop.operation.drift import (
    accepted_shares,
    compare,
    in_words,
    population_stability_index,
    quantile_edges,
)
from rewardloop.operation.drift_page import render_drift
from rewardloop.operation.drift_reports import DistributionLine, DriftReport, LateLabels, keep_report, latest_drift
from rewardloop.storage import Storage
from rewardloop.tables import ITEMS
from tests.logged import decision, write_decisions

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LIMITS = DriftSettings(min_decisions=100, min_reference=50)


def side(count: int, seed: int, *, shift: float = 0.0, segment: str | None = None, schema: Any = REFERENCE) -> Any:
    """Answers with normal scores, accepted from 0 on, without prompts."""
    random = np.random.default_rng(seed)
    scores = random.normal(shift, 1, count)
    columns: dict[str, Any] = {
        "score": scores,
        "decision": np.where(scores >= 0, "accept", "block"),
        "prompt_characters": np.zeros(count, dtype=int),
        "response_characters": random.integers(20, 200, count),
        "segment": [segment] * count,
    }
    known = {name: columns[name] if name in columns else [None] * count for name in schema}
    return pl.DataFrame(known, schema=schema)


def line_of(lines: list[DistributionLine], what: str, segment: str | None = None) -> DistributionLine:
    (found,) = [line for line in lines if (line.what, line.segment) == (what, segment)]
    return found


def test_the_index_by_hand() -> None:
    # Shares 0.5, 0.5 then and 0.25, 0.75 now: (-0.25) ln(0.5) + 0.25 ln(1.5) = 0.25 ln 3.
    assert population_stability_index(np.array([10, 10]), np.array([5, 15])) == pytest.approx(0.25 * math.log(3))
    assert population_stability_index(np.array([3, 7]), np.array([30, 70])) == pytest.approx(0, abs=1e-12)


def test_an_empty_bin_counts_half_an_answer_and_one_that_is_empty_on_both_sides_nothing() -> None:
    # 0 of 20 becomes 0.5 of 20 = 0.025 against 0.5; the other bins: 1 against 0.5.
    expected = (0.5 - 0.025) * math.log(0.5 / 0.025) + (0.5 - 1.0) * math.log(0.5 / 1.0)
    assert population_stability_index(np.array([0, 20, 0]), np.array([10, 10, 0])) == pytest.approx(expected)


def test_bins_are_quantiles_and_a_value_that_is_several_of_them_has_its_own() -> None:
    numbers = np.arange(1.0, 101.0)
    assert quantile_edges(numbers).tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    half = np.concatenate([np.zeros(50), np.arange(1.0, 51.0)])
    edges = quantile_edges(half)
    assert edges.tolist() == [-5e-324, 0, 10, 20, 30, 40]
    counts = np.bincount(np.searchsorted(edges, half), minlength=len(edges) + 1)
    assert counts.tolist() == [0, 50, 10, 10, 10, 10, 10]


def test_the_same_distribution_has_not_drifted_and_a_moved_one_has() -> None:
    then = side(500, 1)
    same = compare(then, side(2_000, 2, schema=DECISIONS), LIMITS)
    assert [line.what for line in same] == ["score", "prompt length", "response length", "decision"]
    assert not any(line.drifted for line in same)
    moved = compare(then, side(2_000, 3, shift=-1, schema=DECISIONS), LIMITS)
    assert {line.what for line in moved if line.drifted} == {"score", "decision"}
    score = line_of(moved, "score")
    assert score.test == "Kolmogorov-Smirnov"
    assert "score: population stability index" in in_words(score, LIMITS)
    assert sum(then for _, then, _ in score.bins) == pytest.approx(1)
    assert [round(then, 2) for _, then, _ in score.bins] == [0.1] * 10


def test_a_difference_that_only_very_many_decisions_can_see_is_no_drift() -> None:
    found = compare(side(5_000, 1), side(60_000, 2, shift=0.15, schema=DECISIONS), LIMITS)
    score = line_of(found, "score")
    assert score.corrected is not None
    assert score.psi is not None
    assert score.corrected < 1e-6  # the test alone would cry wolf
    assert score.psi < 0.2
    assert not score.drifted


def test_a_large_index_of_few_answers_is_no_drift_without_the_test() -> None:
    limits = LIMITS.model_copy(update={"min_reference": 10, "min_decisions": 10, "max_psi": 0.05})
    found = compare(side(12, 1), side(12, 2, schema=DECISIONS), limits)
    assert line_of(found, "score").psi > 0.05  # type: ignore[operator]
    assert not any(line.drifted for line in found)


def test_false_alarms_are_rare_and_a_large_shift_is_always_seen() -> None:
    unmoved = measure(300, 500, 0.0, repeats=20)
    assert unmoved.drifted <= 0.05 < unmoved.index_alone
    assert measure(300, 500, 1.0, repeats=5).drifted == 1


def test_p_values_are_corrected_over_all_tests() -> None:
    then = pl.concat([side(300, 1, segment="a"), side(300, 2, segment="b")])
    now = pl.concat([side(300, 3, segment="a", schema=DECISIONS), side(300, 4, segment="b", schema=DECISIONS)])
    lines = compare(then, now, LIMITS)
    assert len(lines) == 4 * 3 + 1  # four of everything and of each segment, and the segments themselves
    smallest = min(lines, key=lambda line: line.p_value or 0)
    assert smallest.corrected == pytest.approx(min(1, 13 * (smallest.p_value or 0)))
    decided = line_of(lines, "decision", "a")
    sides = (then[:300], now[:300])
    table = [[int((part["decision"] == name).sum()) for name in ("accept", "block")] for part in sides]
    assert decided.p_value == pytest.approx(chi2_contingency(np.array(table)).pvalue)


def test_one_segment_that_moves_is_found_where_the_whole_hides_it() -> None:
    then = pl.concat([side(2_000, 1, segment="web"), side(200, 2, segment="phone")])
    now = pl.concat(
        [side(4_000, 3, segment="web", schema=DECISIONS), side(400, 4, segment="phone", shift=-1.5, schema=DECISIONS)]
    )
    lines = compare(then, now, LIMITS)
    assert {(line.what, line.segment) for line in lines if line.drifted} == {("score", "phone"), ("decision", "phone")}


def test_a_new_segment_is_drift_of_the_segments() -> None:
    then = side(300, 1, segment="web")
    now = pl.concat([side(300, 2, segment="web", schema=DECISIONS), side(200, 3, segment="app", schema=DECISIONS)])
    lines = compare(then, now, LIMITS)
    segments = line_of(lines, "segment")
    assert segments.drifted
    assert [name for name, _, _ in segments.bins] == ["app", "web"]
    assert line_of(lines, "score", "app").note.startswith("too few: the reference has 0, 50 are needed")


def test_segments_that_only_one_side_names_are_not_compared() -> None:
    lines = compare(side(300, 1, segment="web"), side(300, 2, schema=DECISIONS), LIMITS)
    assert all(line.segment is None and line.what != "segment" for line in lines)


def test_too_few_decisions_say_nothing_and_name_the_number() -> None:
    lines = compare(side(300, 1), side(99, 2, shift=-3, schema=DECISIONS), LIMITS)
    assert {line.note for line in lines} == {"too few: 99 decisions, 100 are needed (drift.min_decisions)"}
    assert not any(line.drifted for line in lines)
    assert compare(side(300, 1), side(0, 2, schema=DECISIONS), LIMITS)[0].note.startswith("too few: 0 decisions")


def test_unscored_answers_and_versions_without_a_threshold() -> None:
    then, now = side(300, 1), side(300, 2, schema=DECISIONS)
    unscored = now.with_columns(pl.when(pl.int_range(pl.len()) < 50).then(None).otherwise("score").alias("score"))
    assert line_of(compare(then, unscored, LIMITS), "score").decisions == 250
    free = [part.with_columns(pl.lit(None, pl.String).alias("decision")) for part in (then, now)]
    assert "decision" not in {line.what for line in compare(free[0], free[1], LIMITS)}
    assert accepted_shares(free[0], free[1], 0.95)[0].then is None


def test_accepted_shares_with_exact_intervals() -> None:
    then = side(4, 1).with_columns(decision=pl.Series(["accept", "accept", "block", "block"]))
    now = side(4, 1, schema=DECISIONS).with_columns(decision=pl.Series(["accept", "review", "block", "block"]))
    (line,) = accepted_shares(then, now, 0.95)
    assert line.then is not None
    assert line.now is not None
    assert (line.then.value, line.now.value) == (0.5, 0.25)
    # Clopper and Pearson for 1 of 4: 1 - 0.975^(1/4) and the published 0.8059.
    assert (line.now.low, line.now.high) == (pytest.approx(1 - 0.975**0.25), pytest.approx(0.8059, abs=1e-4))


def test_the_reference_is_one_random_answer_per_held_out_document_without_texts() -> None:
    rows = [
        {
            "item": number,
            "split": split,
            "document": document,
            "prompt": [{"role": "system", "content": "ab"}, {"role": "user", "content": "cde"}],
            "response": "x" * (number + 1),
            "random": random,
            "segment": "web",
        }
        for number, (split, document, random) in enumerate(
            [
                ("train", "a", True),
                ("calibration", "b", True),
                ("calibration", "b", True),
                ("test", "c", True),
                ("test", "d", False),
                ("golden", "e", True),
                ("test", "f", True),
            ]
        )
    ]
    items = pl.DataFrame(rows, schema={name: kind for name, kind in ITEMS.items() if name in rows[0]})
    public = np.array([0.0, 1.0, 1.0, -1.0, 2.0, 3.0, np.nan])
    scoring = {"threshold": 0.5, "block_threshold": -0.5}
    found = reference_sample(items, public, scoring, EvaluationSettings())
    assert found.schema == REFERENCE
    by_length = {row["response_characters"]: row for row in found.to_dicts()}
    assert len(found) == 3
    assert len({2, 3} & set(by_length)) == 1  # one of document b
    assert by_length[4] | {"split": "test"} == {
        "score": -1.0,
        "decision": "block",
        "prompt_characters": 5,
        "response_characters": 4,
        "segment": "web",
        "split": "test",
    }
    assert (by_length[7]["score"], by_length[7]["decision"]) == (None, "review")
    again = reference_sample(items, public, scoring, EvaluationSettings(reference_items=2))
    assert again.equals(found.head(2))
    without = reference_sample(items, public, {"threshold": None, "block_threshold": None}, EvaluationSettings())
    assert without["decision"].is_null().all()


def test_decisions_are_read_by_time_and_version_and_broken_lines_are_named(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    since = NOW - timedelta(days=2)
    write_decisions(storage, "2026-11-01/old.jsonl", decision(NOW - timedelta(days=20)))
    # The file of the day before was begun before midnight.
    night = decision(since - timedelta(hours=1)), decision(since + timedelta(minutes=1))
    write_decisions(storage, "2026-11-18/night.jsonl", *night)
    write_decisions(
        storage,
        "2026-11-21/a.jsonl",
        decision(NOW, prompt="Hi", texts=True),
        decision(NOW, version="2"),
        "{half a li",
        decision(NOW).model_copy(update={"at": "2026-11-21T12:00:00"}),
        '{"at": "2026-11-21T12:00:00Z"}',
    )
    storage.write("decisions/2026-11-21/notes.txt", b"not a log")
    found = read_decisions(storage, since, "3", texts=True)
    assert found.frame.schema == DECISIONS
    assert found.frame["at"].to_list() == [since + timedelta(minutes=1), NOW]
    assert found.frame["response"].to_list() == [None, "Good."]
    assert [cause.split(": ")[0] for cause in found.broken] == [
        f"decisions/2026-11-21/a.jsonl:{number}" for number in (3, 4, 5)
    ]
    assert "has no time zone" in found.broken[1]
    assert "request_id: Field required" in found.broken[2]
    assert read_decisions(storage, since, "3").frame["response"].is_null().all()
    assert len(read_decisions(storage, since).frame) == 3
    assert read_decisions(Storage.open(str(tmp_path / "none")), since).frame.is_empty()


def report(version: str, at: datetime, **changes: Any) -> DriftReport:
    known: dict[str, Any] = {
        "model": "acme-reward",
        "version": version,
        "at": at,
        "since": at - timedelta(days=7),
        "reference": 300,
        "decisions": 50,
        "unscored": 0,
        "needed": 200,
        "max_psi": 0.2,
        "level": 0.01,
        "drifted": False,
        "reasons": [],
        "distributions": [],
        "accepted": [],
        "late": LateLabels(acceptability="none"),
    }
    return DriftReport.model_validate(known | changes)


def test_reports_are_kept_once_and_the_latest_is_found(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    assert latest_drift(storage) is None
    assert keep_report(storage, report("10", NOW)) == "drift/10/20261121T120000.000000Z.json"
    keep_report(storage, report("9", NOW + timedelta(seconds=1), drifted=True, reasons=["score"]))
    with pytest.raises(BadInputError, match="is there already"):
        keep_report(storage, report("10", NOW))
    newest = latest_drift(storage)
    assert newest is not None
    assert (newest.version, newest.drifted, newest.enough) == ("9", True, False)
    older = latest_drift(storage, "10")
    assert older == report("10", NOW)
    storage.write("drift/9/20261122T000000.000000Z.json", b"{}")
    with pytest.raises(BadInputError, match="is not a drift report"):
        latest_drift(storage)


def test_the_page_escapes_what_clients_send_and_runs_no_script() -> None:
    then = pl.concat([side(300, 1, segment="web"), side(300, 2, segment="<script>alert(1)</script>")])
    now = then.sample(fraction=1.0, shuffle=True, seed=0).select(
        [column if column in then.columns else pl.lit(None).alias(column) for column in DECISIONS]
    )
    lines = compare(then, now.cast(DECISIONS), LIMITS)
    lines[0].drifted = True
    found = report(
        "3", NOW, decisions=600, drifted=True, reasons=["<i>score</i>"], distributions=lines, broken=["a.jsonl:1: <b>"]
    )
    page = render_drift(found)
    assert "acme-reward version 3: answers have drifted." in page
    assert page.count("<svg") == len([line for line in lines if line.segment is None and len(line.bins) > 1])
    for tag in ("<script", "<i>score", "<b>"):
        assert tag not in page
    assert "&lt;script&gt;" in page
