"""When the recurring run starts next.

In: a cron expression as Kubeflow Pipelines takes it, six fields with the seconds first. Out: the next start, or what is
wrong with the expression.
"""

import re
from datetime import datetime

from rewardloop.config.operation import CRON_FIELDS, wrong_fields
from rewardloop.errors import BadInputError

# croniter knows more than the Go library behind Kubeflow Pipelines (robfig/cron): L, W, #, and 7 for Sunday.
_ITEM = r"(?:[*?]|(?:\d+|[A-Za-z]{3})(?:-(?:\d+|[A-Za-z]{3}))?)(?:/\d+)?"
_FIELD = re.compile(rf"{_ITEM}(?:,{_ITEM})*")
_SEVENTH_DAY = re.compile(r"(?<![\d/])7(?!\d)")


def check_cron(cron: str) -> None:
    """Raise BadInputError where ``cron`` is no schedule; one with five fields is told what six mean."""
    from croniter import CroniterError, croniter

    if problem := wrong_fields(cron):
        raise BadInputError(f"schedule.cron: {problem}")
    for name, field in zip(CRON_FIELDS.split(), cron.split(), strict=True):
        if not _FIELD.fullmatch(field):
            raise BadInputError(
                f"schedule.cron: {cron!r}: {field!r} is no {name}; expected numbers, names of three letters, *, ?, "
                "ranges (1-5), steps (*/15) and lists (1,15)"
            )
    if _SEVENTH_DAY.search(cron.split()[-1]):
        raise BadInputError(f"schedule.cron: {cron!r}: Kubeflow Pipelines has no day-of-week 7; Sunday is 0")
    try:
        croniter.expand(cron, second_at_beginning=True)
    except CroniterError as error:
        raise BadInputError(f"schedule.cron: {cron!r}: {error}; expected {CRON_FIELDS}") from error


def next_start(cron: str, after: datetime) -> datetime:
    """The first start later than ``after``, in its time zone; Kubeflow Pipelines counts in UTC.

    Raises:
        BadInputError: ``cron`` is no schedule, or names a day that never comes.
    """
    from croniter import CroniterBadDateError, croniter

    check_cron(cron)
    try:
        start: datetime = croniter(cron, after, second_at_beginning=True).get_next(datetime)
    except CroniterBadDateError as error:
        raise BadInputError(f"schedule.cron: {cron!r} names a day that never comes") from error
    return start
