"""Cron expressions with seconds: the next start, and what is said of one that is wrong."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from rewardloop.config import load_settings
from rewardloop.errors import BadInputError
from rewardloop.operation.schedule import check_cron, next_start

NEW_YEAR = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)  # a Thursday


@pytest.mark.parametrize(
    ("cron", "start"),
    [
        ("0 0 3 * * *", datetime(2026, 1, 2, 3, 0, tzinfo=UTC)),
        ("30 0 3 * * *", datetime(2026, 1, 1, 3, 0, 30, tzinfo=UTC)),
        ("*/15 * * * * *", datetime(2026, 1, 1, 3, 0, 15, tzinfo=UTC)),
        ("0 30 6 * * MON", datetime(2026, 1, 5, 6, 30, tzinfo=UTC)),
        ("0 0 0 ? * 1-5", datetime(2026, 1, 2, tzinfo=UTC)),
        ("0 0 0 */7 * *", datetime(2026, 1, 8, tzinfo=UTC)),
        ("0 0 0 29 2 *", datetime(2028, 2, 29, tzinfo=UTC)),
    ],
)
def test_the_next_start_is_later_than_now(cron: str, start: datetime) -> None:
    assert next_start(cron, NEW_YEAR) == start


def test_five_fields_are_told_what_six_mean() -> None:
    with pytest.raises(BadInputError) as caught:
        check_cron("0 3 * * *")
    assert str(caught.value) == (
        "schedule.cron: '0 3 * * *' has 5 fields, Kubeflow Pipelines takes six: "
        'second minute hour day-of-month month day-of-week; put a 0 in front: "0 0 3 * * *"'
    )


def test_the_configuration_is_checked_when_it_is_read() -> None:
    with pytest.raises(BadInputError, match="has 5 fields, Kubeflow Pipelines takes six: second minute hour"):
        load_settings(Path("conf/smoke.yaml"), ['schedule.cron="0 3 * * *"'])


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 60 3 * * *", "out of range"),
        ("0 0 3 * * NOW", "NOW"),
        ("@daily", "has 1 fields"),
        ("", "has 0 fields"),
        ("0 0 0 3 * * * *", "has 8 fields"),
        ("0 0 3 30 2 *", "names a day that never comes"),
        ("0 0 3 L * *", "'L' is no day-of-month"),
        ("0 0 3 * * 0#1", "'0#1' is no day-of-week"),
        ("0 0 3 * * 5-7", "has no day-of-week 7; Sunday is 0"),
    ],
)
def test_what_is_no_schedule_is_refused(cron: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        next_start(cron, NEW_YEAR)
