"""What people said of a policy beside its reference: counts and shares worked by hand."""

from typing import Any

import polars as pl
import pytest

from rewardloop.evaluation.human import human_comparisons
from rewardloop.records import FeedbackGroup
from rewardloop.tables import FEEDBACK, feedback_frame

POLICY, OTHER = "aa" * 32, "bb" * 32


def label(vote: str, labeler: str | None) -> dict[str, Any]:
    """``win``, ``tie`` or ``loss`` of the policy, whose answer is p."""
    if vote == "tie":
        return {"kind": "ranking", "labeler": labeler, "ranks": {"p": 1, "r": 1}}
    chosen, rejected = ("p", "r") if vote == "win" else ("r", "p")
    return {"kind": "choice", "labeler": labeler, "chosen": chosen, "rejected": rejected}


def group(
    prompt: str, *votes: tuple[str, str | None], policy: str = POLICY, run: str | None = "run:r1", answer: str = "x"
) -> FeedbackGroup:
    responses = [
        {"response_id": "r", "content": f"{prompt} r", "model": f"reference:{policy}"},
        {"response_id": "p", "content": f"{prompt} {answer}", "model": f"policy:{policy}"},
    ]
    return FeedbackGroup.model_validate(
        {
            "group_id": f"{prompt}{answer}",
            "prompt": [{"role": "user", "content": prompt}],
            "responses": responses,
            "labels": [label(vote, labeler) for vote, labeler in votes],
            "source": run,
            "sampling": "comparison",
        }
    )


def frame(*groups: FeedbackGroup) -> pl.DataFrame:
    return feedback_frame((f"f:{number}", one) for number, one in enumerate(groups))


def test_counts_and_shares_over_prompts() -> None:
    (found,) = human_comparisons(
        frame(
            # One row per annotation, as the importer makes them: two of three prefer the policy.
            group("q1", ("win", "anna")),
            group("q1", ("win", "ben")),
            group("q1", ("loss", "cara")),
            # A win and a loss are a tie of the prompt, a tie and a win are a win.
            group("q2", ("win", "anna")),
            group("q2", ("loss", "ben")),
            group("q3", ("tie", "anna")),
            group("q3", ("win", "ben")),
            group("q4", ("loss", "anna")),
            group("q5", ("tie", "cara")),
        )
    )
    assert (found.policy, found.run_id) == (POLICY, "r1")
    assert (found.prompts, found.labels, found.labelers) == (5, 9, 3)
    assert (found.wins, found.ties, found.losses) == (2, 2, 1)
    # Shares of 2/3, 1/2, 3/4, 0 and 1/2 are 29/12 of five prompts.
    assert found.win_rate.value == pytest.approx(29 / 60)
    assert found.win_rate.low < 29 / 60 < found.win_rate.high
    assert (found.win_rate.count, found.win_rate.unit, found.win_rate.level) == (5, "prompts", 0.95)


def test_the_interval_is_over_prompts_and_not_over_labels() -> None:
    # Eight prompts won and eight lost, by four people each: sixteen observations, not 64.
    # The spread of a mean of 16 coin flips is 1/8: 95% lie within about 1/4.
    groups = [
        group(f"q{number}", *((("win", "loss")[number % 2], f"w{who}") for who in range(4))) for number in range(16)
    ]
    (found,) = human_comparisons(frame(*groups))
    assert found.win_rate.value == 0.5
    assert found.win_rate.low == pytest.approx(0.25, abs=0.07)
    assert found.win_rate.high == pytest.approx(0.75, abs=0.07)
    assert (found.labels, found.labelers) == (64, 4)


def test_a_labeler_has_one_vote_per_prompt() -> None:
    (found,) = human_comparisons(
        frame(
            group("q1", ("win", "anna")),
            group("q1", ("win", "anna"), answer="y"),
            group("q1", ("win", "anna"), answer="z"),
            group("q1", ("loss", "ben")),
        )
    )
    assert (found.wins, found.ties, found.losses) == (0, 1, 0)
    assert found.labels == 4


def test_labels_without_identities_count_each() -> None:
    (found,) = human_comparisons(frame(group("q1", ("win", None), ("win", None), ("loss", None))))
    assert found.labelers is None
    assert (found.wins, found.labels) == (1, 3)
    assert found.win_rate.value == pytest.approx(2 / 3)


def test_a_rating_of_both_answers_counts_and_a_label_of_one_does_not() -> None:
    one = group("q1", ("win", "anna")).model_dump(by_alias=True)
    rating = {"kind": "rating", "labeler": "ben", "scores": {"p": 1, "r": 4}}
    verdict = {"kind": "acceptable", "labeler": "cara", "values": {"p": True}}
    (found,) = human_comparisons(frame(FeedbackGroup.model_validate({**one, "labels": [rating, verdict]})))
    assert (found.losses, found.labels) == (1, 1)


def test_policies_are_told_apart_and_the_latest_run_names_them() -> None:
    first, second = human_comparisons(
        frame(
            group("q1", ("win", "anna"), policy=OTHER, run="run:2026-b"),
            group("q1", ("loss", "anna"), run="run:2026-c"),
            group("q2", ("loss", "anna"), run="run:2026-a"),
        )
    )
    assert (first.policy, first.run_id, first.wins, first.losses) == (OTHER, "2026-b", 1, 0)
    assert (second.policy, second.run_id, second.wins, second.losses) == (POLICY, "2026-c", 0, 2)


def test_an_unknown_run_stays_empty() -> None:
    (found,) = human_comparisons(frame(group("q1", ("win", "anna"), run="desk"), group("q2", ("win", "a"), run=None)))
    assert found.run_id == ""


def test_rows_of_other_feedback_are_not_looked_at() -> None:
    one = group("q1", ("win", "anna"))
    plain = one.model_copy(
        update={"responses": tuple(each.model_copy(update={"model": None}) for each in one.responses)}
    )
    half = one.model_copy(
        update={"responses": (one.responses[0].model_copy(update={"model": "gpt"}), one.responses[1])}
    )
    assert human_comparisons(frame(plain, half)) == []
    assert human_comparisons(pl.DataFrame(schema=FEEDBACK)) == []


def test_the_order_of_rows_does_not_matter() -> None:
    records = frame(*(group(f"q{n}", (("win", "loss", "tie")[n % 3], f"w{n % 2}")) for n in range(9)))
    assert human_comparisons(records) == human_comparisons(records.reverse())
