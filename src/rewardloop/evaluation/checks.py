"""Conditions of a gate: a measured value against its limit becomes a ``Check`` with its rule and reason in words.

A value that could not be measured (None or NaN) never passes; ``missing`` says why it could not.
"""

import operator
from collections.abc import Callable
from typing import Literal

from rewardloop.evidence import Check, Estimate


def lower_end(name: str, estimate: Estimate | None, limit: float, *, above: bool = False, missing: str = "") -> Check:
    """The lower end of the interval is at least ``limit``, or with ``above`` greater."""
    return _end(name, estimate, limit, "lower", ">" if above else ">=", missing)


def upper_end(name: str, estimate: Estimate | None, limit: float, *, missing: str = "") -> Check:
    """The upper end of the interval is at most ``limit``."""
    return _end(name, estimate, limit, "upper", "<=", missing)


def not_surely_above(name: str, estimate: Estimate | None, limit: float, *, missing: str = "") -> Check:
    """The lower end of the interval is at most ``limit``: refused is only what is surely more."""
    return _end(name, estimate, limit, "lower", "<=", missing)


def not_surely_below(name: str, estimate: Estimate | None, limit: float, *, missing: str = "") -> Check:
    """The upper end of the interval is at least ``limit``: refused is only what is surely less."""
    return _end(name, estimate, limit, "upper", ">=", missing)


_SIGNS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    ">": (operator.gt, "above"),
    ">=": (operator.ge, "at least"),
    "<=": (operator.le, "at most"),
}


def _end(
    name: str, estimate: Estimate | None, limit: float, end: Literal["lower", "upper"], sign: str, missing: str
) -> Check:
    rule = f"{end} end of the interval {sign} limit"
    if estimate is None:
        return unmeasured(name, limit, rule, missing)
    holds, words = _SIGNS[sign]
    passed = holds(estimate.low if end == "lower" else estimate.high, limit)
    return Check(
        name=name,
        passed=passed,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        limit=limit,
        rule=rule,
        reason=f"{_shown(name, estimate)}; the {end} end {'is' if passed else 'is not'} {words} {limit:g}.",
    )


def magnitude(estimate: Estimate) -> Estimate:
    """The estimate's absolute value; an interval that holds 0 begins there."""
    ends = (abs(estimate.low), abs(estimate.high))
    low = 0.0 if estimate.low <= 0 <= estimate.high else min(ends)
    return estimate.model_copy(update={"value": abs(estimate.value), "low": low, "high": max(ends)})


def unmeasured(name: str, limit: float, rule: str, why: str) -> Check:
    """A check of something that could not be measured: it never passes."""
    reason = f"{name[0].upper()}{name[1:]}: could not be measured: {why}"
    return Check(name=name, passed=False, value=None, limit=limit, rule=rule, reason=reason)


def at_most(name: str, value: float | Estimate | None, limit: float) -> Check:
    """The value is at most ``limit``; the interval of an ``Estimate`` is shown and decides nothing."""
    number = value.value if isinstance(value, Estimate) else value
    return _bounded(name, value, limit, passed=number is not None and number <= limit, sign="<=")


def at_least(name: str, value: float | Estimate | None, limit: float) -> Check:
    """The value is at least ``limit``; the interval of an ``Estimate`` is shown and decides nothing."""
    number = value.value if isinstance(value, Estimate) else value
    return _bounded(name, value, limit, passed=number is not None and number >= limit, sign=">=")


def _bounded(name: str, value: float | Estimate | None, limit: float, *, passed: bool, sign: str) -> Check:
    ends = (value.low, value.high) if isinstance(value, Estimate) else (None, None)
    return Check(
        name=name,
        passed=passed,
        value=value.value if isinstance(value, Estimate) else value,
        low=ends[0],
        high=ends[1],
        limit=limit,
        rule=f"value {sign} limit",
        reason=f"{_shown(name, value)}; the limit is {limit:g}.",
    )


def _shown(name: str, value: float | Estimate | None) -> str:
    """The measured value in words: "Calibration error (ECE): 0.060"."""
    if isinstance(value, Estimate):
        found = f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
    else:
        found = "could not be measured" if value is None else f"{value:.3f}"
    return f"{name[0].upper()}{name[1:]}: {found}"
