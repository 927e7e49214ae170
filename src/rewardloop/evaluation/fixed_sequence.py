"""What the accept and the block threshold share: labeled items, one fixed sequence of exact tests, exact intervals.

In: items with score and verdict, thresholds in an order that no calibration label decided. Out: the last threshold
before the first failure, and when there is none, why not and how many items would be needed.

Fixed-sequence testing as in Angelopoulos et al. 2021, "Learn then Test". Because the order is fixed, no correction for
the number of thresholds is needed.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import bdtr

from rewardloop.bootstrap import Bools, Floats, Ints
from rewardloop.config import ThresholdSettings

_MOST_ITEMS = 100_000_000


class Labeled(NamedTuple):
    """Items with a verdict, one per document: answers of one document are not independent."""

    score: Floats
    """Minus infinity or NaN: could not be scored."""
    unacceptable: Bools


class Tried(NamedTuple):
    """One test: of ``taken`` items beyond ``threshold``, ``wrong`` are what the promise bounds."""

    threshold: float
    taken: int
    wrong: int
    p_value: float


class Outcome(NamedTuple):
    """``passed``: the last test before the first failure; ``last``: the last one that was done. None: there is none."""

    passed: Tried | None
    last: Tried | None


class Side(NamedTuple):
    """What is different in words between accepting from the top and blocking from the bottom."""

    extreme: str
    """best or worst"""
    wrong: str
    """unacceptable or acceptable"""
    level: str
    """alpha or alpha_blocked"""


def least_items(settings: ThresholdSettings) -> int:
    """2.5 ln(delta) / ln(1 - alpha): with fewer items taken even a perfect filter has little chance to pass."""
    return int(np.ceil(2.5 * np.log(settings.delta) / np.log(1 - settings.alpha)))


def strict_start(items: int, settings: ThresholdSettings) -> int:
    """How many of ``items`` the strictest threshold takes: ``least_items``, or a tenth where that is more.

    The first failure ends the sequence, so the start must not fail by bad luck. With a fixed number it would, however
    many items there are; a share lets more items make it surer.
    """
    return max(least_items(settings), int(np.ceil(items / 10)))


def in_sequence(thresholds: Floats, taken: Ints, wrong: Ints, settings: ThresholdSettings) -> Outcome:
    """Test P(wrong | taken) <= alpha at each threshold in the given order, until one fails.

    Args:
        thresholds: from strict to lenient.
        taken, wrong: calibration items beyond each threshold, and those of them that are wrong.
        settings: alpha of the promise, and delta.
    """
    if not len(thresholds):
        return Outcome(None, None)
    p_values = bdtr(wrong, taken, settings.alpha)
    failures = np.flatnonzero(p_values > settings.delta)
    end = int(failures[0]) if len(failures) else len(thresholds)

    def at(place: int) -> Tried:
        return Tried(float(thresholds[place]), int(taken[place]), int(wrong[place]), float(p_values[place]))

    return Outcome(at(end - 1) if end else None, at(min(end, len(thresholds) - 1)))


def why_not(scored: int, last: Tried | None, settings: ThresholdSettings, side: Side) -> tuple[int | None, str]:
    """About how many calibration items would be needed (None: no number would do), and the reason in words.

    Args:
        scored: calibration items with a verdict and a score.
        last: the test that failed; None: too few items for any test.
        settings: alpha of the promise, and delta.
        side: how the promise is spoken of.
    """
    least = least_items(settings)
    wanted = f"a threshold at {side.level} {settings.alpha:g} and delta {settings.delta:g}"
    if not scored:
        return least, (
            f"No calibration item says whether it is acceptable; {wanted} needs {least:,} that do at the very least."
        )
    if last is None:
        return least, (
            f"There are {scored:,} calibration items with a verdict and a score; {wanted} needs {least:,} at the very "
            "least."
        )
    found = (
        f"Of the {last.taken:,} {side.extreme} calibration items {last.wrong:,} are {side.wrong} "
        f"({last.wrong / last.taken:.1%}, p = {last.p_value:.3f}); {side.level} is {100 * settings.alpha:g}% and delta "
        f"{settings.delta:g}."
    )
    if last.wrong >= settings.alpha * last.taken:
        return None, f"{found} More items would not help: the model has to tell answers apart better."
    # A grid of tenths of a percent is finer than the estimate; counts are rounded against the model.
    needed = np.unique(np.geomspace(scored + 1, _MOST_ITEMS, 20_000).astype(int))
    takes = np.maximum(least, needed // 10)
    p_values = bdtr(np.ceil(takes * (last.wrong / last.taken)), takes, settings.alpha)
    enough = np.flatnonzero(p_values <= settings.delta)
    if not len(enough):
        return None, f"{found} More items would hardly help."
    about = int(needed[enough[0]])
    return about, f"{found} At these rates about {about:,} calibration items would do."
