"""Late labels: which count, what acceptable means, and the rate with its interval."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rewardloop.config import Settings
from rewardloop.evidence.decisions import DecisionRecord
from rewardloop.feedback.store import BatchManifest, FeedbackStore, batch_digest
from rewardloop.operation.decisions import read_decisions
from rewardloop.operation.drift_reports import DisagreementLine, LateLabels
from rewardloop.operation.late_labels import AGAIN, PICKED, REVIEWED, UNDECIDED, late_labels
from rewardloop.records import FeedbackGroup
from rewardloop.storage import Storage
from rewardloop.tables import feedback_frame
from tests.logged import decision, write_decisions

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def configured(**sections: Any) -> Settings:
    return Settings.model_validate({"organization": "acme", "model": {"base": "random:tiny"}, **sections})


def text(content: str, acceptable: bool | None = None, **fields: Any) -> FeedbackGroup:
    """A text without a prompt, with a verdict or with the labels given."""
    label = {"labeler": "w", "kind": "acceptable", "values": {"a": acceptable}}
    known = {
        "group_id": content,
        "responses": [{"response_id": "a", "content": content}],
        "labels": [label],
    }
    return FeedbackGroup.model_validate(known | fields)


def ingested(store: FeedbackStore, at: datetime, *groups: FeedbackGroup) -> None:
    """Commit a batch as if it had come at ``at``."""
    frame = feedback_frame((f"labels:{place}", group) for place, group in enumerate(groups))
    manifest = BatchManifest(
        digest=batch_digest(frame["record"].to_list()),
        ingested_at=at,
        rewardloop="test",
        sources=[],
        importer="canonical",
        importer_reason="named",
        rows_in=len(groups),
        rows_taken=len(groups),
        rows_quarantined=0,
        rows_duplicate=0,
        groups=len(groups),
        labels=len(groups),
        labelers=1,
        splits=configured().splits,
    )
    assert store.write_batch(frame, manifest)


def found(
    folder: Path, logged: list[DecisionRecord], *batches: tuple[datetime, list[FeedbackGroup]], **sections: Any
) -> LateLabels:
    storage = Storage.open(str(folder))
    write_decisions(storage, "2026-11-21/a.jsonl", *logged)
    store = FeedbackStore(storage)
    for at, groups in batches:
        ingested(store, at, *groups)
    return late_labels(store, read_decisions(storage, NOW - HOUR).frame, configured(**sections))


def whole(late: LateLabels) -> DisagreementLine:
    (line,) = [line for line in late.lines if line.segment is None]
    return line


def test_accepted_and_unacceptable_or_blocked_and_acceptable_disagrees(tmp_path: Path) -> None:
    logged = [decision(NOW, f"shown {n}") for n in range(6)]
    logged += [decision(NOW, f"held {n}", decision="block") for n in range(4)]
    labels = [text(f"shown {n}", n != 0) for n in range(6)] + [text(f"held {n}", n < 2) for n in range(4)]
    # Written otherwise, but the same text once normalized.
    labels[1] = text("SHOWN   1", True)
    late = found(tmp_path, logged, (NOW + HOUR, labels))
    line = whole(late)
    assert late.acceptability == "explicit verdicts, the majority decides"
    assert (line.labeled, late.left_out) == (10, {})
    assert line.disagreement is not None
    assert line.unacceptable_among_accepted is not None
    assert line.acceptable_among_blocked is not None
    assert line.disagreement.value == pytest.approx(3 / 10)
    assert (line.unacceptable_among_accepted.value, line.acceptable_among_blocked.value) == (
        pytest.approx(1 / 6),
        pytest.approx(1 / 2),
    )
    # Clopper and Pearson, 3 of 10: 0.0667 to 0.6525 (tables).
    assert (line.disagreement.low, line.disagreement.high) == (
        pytest.approx(0.0667, abs=1e-4),
        pytest.approx(0.6525, abs=1e-4),
    )
    assert not line.drifted


def test_only_labels_that_came_after_the_decision_count(tmp_path: Path) -> None:
    logged = [decision(NOW, "early"), decision(NOW, "late"), decision(NOW, "unlabeled")]
    before = (NOW - HOUR / 2, [text("early", False)])
    late = found(tmp_path, logged, before, (NOW + HOUR, [text("late", True), text("other", True)]))
    assert whole(late).labeled == 1
    assert whole(late).disagreement.value == 0  # type: ignore[union-attr]
    assert late.left_out == {}


def test_what_was_picked_on_purpose_or_sent_to_a_person_is_left_out_with_its_reason(tmp_path: Path) -> None:
    logged = [
        decision(NOW, "hard"),
        decision(NOW, "between", decision="review"),
        decision(NOW, "split"),
        decision(NOW, "plain"),
    ]
    split = [{"labeler": who, "kind": "acceptable", "values": {"a": says}} for who, says in (("u", True), ("w", False))]
    labels = [text("hard", False, sampling="active"), text("between", True), text("split", labels=split)]
    late = found(tmp_path, logged, (NOW + HOUR, [*labels, text("plain", True)]))
    assert late.left_out == {PICKED: 1, REVIEWED: 1, UNDECIDED: 1}
    assert whole(late).labeled == 1


def test_one_answer_per_document_counts(tmp_path: Path) -> None:
    logged = [decision(NOW, f"sentence {n}") for n in range(5)] + [decision(NOW, "alone")]
    labels = [text(f"sentence {n}", False, document_id="one") for n in range(5)] + [text("alone", True)]
    late = found(tmp_path, logged, (NOW + HOUR, labels))
    assert (whole(late).labeled, late.left_out) == (2, {AGAIN: 4})


def test_ratings_and_comparisons_say_what_is_acceptable_where_the_configuration_says_so(tmp_path: Path) -> None:
    logged = [decision(NOW, "good", "q"), decision(NOW, "bad", "q")]
    responses = [{"response_id": "a", "content": "good"}, {"response_id": "b", "content": "bad"}]
    rated = {"labeler": "w", "kind": "rating", "scores": {"a": 4, "b": 2}, "scale": [1, 5]}
    group = text("q", prompt=[{"role": "user", "content": "q"}], responses=responses, labels=[rated])
    sections: list[tuple[dict[str, Any], str]] = [
        ({"acceptable_rating": 3.0}, "mean rating >= 3"),
        ({}, "won more than half of its comparisons"),
    ]
    for number, (preferences, source) in enumerate(sections):
        late = found(tmp_path / str(number), logged, (NOW + HOUR, [group]), preferences=preferences)
        assert late.acceptability == source
        # Both answers are of one prompt, so one of them counts.
        assert (whole(late).labeled, late.left_out) == (1, {AGAIN: 1})


def test_a_source_that_says_nothing_is_told(tmp_path: Path) -> None:
    late = found(
        tmp_path,
        [decision(NOW, "x")],
        (NOW + HOUR, [text("x", True)]),
        preferences={"acceptable_from": "ratings", "acceptable_rating": 3},
    )
    assert late.acceptability.startswith("not known: preferences.acceptable_from: ratings, but no answer has a rating")
    assert late.lines == []


def test_segments_have_lines_of_their_own(tmp_path: Path) -> None:
    logged = [decision(NOW, f"{name} {n}", segment=name) for name in ("web", "phone") for n in range(3)]
    labels = [text(f"{name} {n}", name == "web") for name in ("web", "phone") for n in range(3)]
    late = found(tmp_path, logged, (NOW + HOUR, labels))
    rates = {line.segment: line.disagreement.value for line in late.lines if line.disagreement}
    assert rates == {None: 0.5, "phone": 1.0, "web": 0.0}


@pytest.mark.parametrize(("limit", "drifted"), [(None, False), (0.3, True), (0.9, False)])
def test_disagreement_is_drift_where_it_is_surely_above_the_limit(
    tmp_path: Path, limit: float | None, drifted: bool
) -> None:
    logged = [decision(NOW, f"answer {n}") for n in range(20)]
    labels = [text(f"answer {n}", n < 2) for n in range(20)]  # 18 of 20: at least 0.683
    late = found(tmp_path, logged, (NOW + HOUR, labels), drift={"max_disagreement": limit})
    assert whole(late).drifted is drifted


def test_no_later_batch_and_no_decision(tmp_path: Path) -> None:
    nothing = "no labels came after these decisions"
    assert found(tmp_path / "a", [decision(NOW)]).acceptability == nothing
    late = found(tmp_path / "b", [], (NOW + HOUR, [text("x", True)]))
    assert late.acceptability == nothing
