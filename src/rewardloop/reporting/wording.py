"""Numbers as people read them, the same in the report and in the printed summary.

Accuracies and differences stay fractions with three decimals, as in the configuration; rates are percentages.
"""

import math

from rewardloop.evidence import Estimate

MINUS = "−"


def count(value: int) -> str:
    """1234567 -> "1,234,567"."""
    return f"{value:,}"


def fraction(value: float | None, digits: int = 3) -> str:
    """0.8781 -> "0.878"; nothing known -> a dash."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """0.0521 -> "+0.052"."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:+.3f}".replace("-", MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """0.0712 -> "7.1%"."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:.{digits}f}%".replace("-", MINUS)


def whole_percent(value: float) -> str:
    """0.1 -> "10%", 0.125 -> "12.5%"."""
    return f"{100 * value:.4g}%"


def interval(estimate: Estimate, *, form: str = "fraction") -> str:
    """Both ends in one of the forms "fraction", "signed", "percent"."""
    show = {"fraction": fraction, "signed": signed, "percent": percent}[form]
    return f"{show(estimate.low)} to {show(estimate.high)}"


def duration(seconds: float | None) -> str:
    """0.43 -> "0.4 s", 197 -> "3 min 17 s", 7320 -> "2 h 2 min"."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def clip(text: str, limit: int = 600) -> str:
    """At most ``limit`` characters, saying how many more there are."""
    if len(text) <= limit:
        return text
    return f"{text[:limit].rstrip()}… ({len(text) - limit:,} characters more)"
