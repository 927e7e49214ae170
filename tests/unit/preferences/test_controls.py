"""How often labelers are right about control items; numbers worked by hand."""

from typing import Any

import pytest

from rewardloop.config import KNOWN_ANSWER
from rewardloop.preferences.controls import control_shares
from rewardloop.records import FeedbackGroup
from rewardloop.tables import feedback_frame


def control(name: str, *labels: dict[str, Any], **more: Any) -> FeedbackGroup:
    """The answers a, b and c, of which a is known to be the best and the others are even."""
    known = {"kind": "ranking", "labeler_kind": "signal", "criterion": KNOWN_ANSWER, "ranks": {"a": 1, "b": 2, "c": 2}}
    return FeedbackGroup.model_validate(
        {
            "group_id": name,
            "prompt": [{"role": "user", "content": name}],
            "responses": [{"response_id": id, "content": f"{id}{name}"} for id in "abc"],
            "labels": [known, *labels],
            "sampling": "control",
        }
        | more
    )


def test_shares_are_of_items_and_ties_count_half() -> None:
    def ranking(who: str | None, **ranks: int) -> dict[str, Any]:
        return {"kind": "ranking", "labeler": who, "ranks": ranks}

    groups = [
        control("1", ranking("anna", a=1, b=2, c=3)),  # a before b and c: right, whatever is said of b and c
        control("1", ranking("ben", a=3, b=1, c=2)),  # both wrong
        control("2", ranking("anna", a=1, b=1, c=2)),  # a tie and a right one: 3/4
        control("3", {"kind": "choice", "labeler": "anna", "chosen": "b", "rejected": "a"}),  # wrong
        control("4", {"kind": "rating", "labeler": "ben", "scores": {"a": 5, "b": 2}}),  # right, higher is better
        control("5", ranking("ben", a=1, b=2), sampling="random"),  # no control
        control("6", ranking(None, a=1, b=2)),  # nobody's
        control("7", {"kind": "choice", "labeler": "cleo", "chosen": "b", "rejected": "c"}),  # even: says nothing
        control("8", {"kind": "choice", "labeler": "ben", "criterion": "tone", "chosen": "b", "rejected": "a"}),
    ]
    found = control_shares(feedback_frame((group.group_id, group) for group in groups), "overall")
    assert set(found) == {"anna", "ben"}
    anna, ben = found["anna"], found["ben"]
    assert (anna.value, anna.count, anna.unit) == (pytest.approx(1.75 / 3), 3, "control items")
    assert (ben.value, ben.count) == (0.5, 2)
    assert ben.low == pytest.approx(0.0126, abs=1e-4)  # Clopper and Pearson, 1 of 2
    assert ben.high == pytest.approx(0.9874, abs=1e-4)


def test_without_controls_there_is_nothing() -> None:
    one = control("1", {"kind": "choice", "labeler": "anna", "chosen": "a", "rejected": "b"}, sampling="random")
    assert control_shares(feedback_frame([("f", one)]), "overall") == {}
