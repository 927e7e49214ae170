"""Numbers as people read them, the same in the report and in the printed summary.

Accuracies and differences stay fractions with three decimals, as in the configuration; rates are percentages; rewards
and divergences of a policy have two decimals, lengths one.
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


def signed(value: float | None, digits: int = 3) -> str:
    """0.0521 -> "+0.052"."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:+.{digits}f}".replace("-", MINUS)


def compact(value: float) -> str:
    """10.0 -> "10", 0.05128 -> "0.0513", 1234.5 -> "1,234": three digits that count, none that say nothing."""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """0.0712 -> "7.1%"."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:.{digits}f}%".replace("-", MINUS)


def whole_percent(value: float) -> str:
    """0.1 -> "10%", 0.125 -> "12.5%"."""
    return f"{100 * value:.4g}%"


def points(value: float | None, digits: int = 1) -> str:
    """0.333 -> "+33.3": percentage points, the difference of two shares."""
    return signed(None if value is None else 100 * value, digits)


def interval(estimate: Estimate, *, form: str = "fraction", digits: int | None = None) -> str:
    """Both ends in one of the forms "fraction", "signed", "percent", "points"; ``digits`` in place of its own."""
    show = {"fraction": fraction, "signed": signed, "percent": percent, "points": points}[form]
    ends = (estimate.low, estimate.high)
    return " to ".join(show(end) if digits is None else show(end, digits) for end in ends)


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


def size(count: int | None) -> str:
    """Bytes in decimal units: 412_345_678 -> "412 MB", 1_234_567_890 -> "1.2 GB"."""
    if count is None:
        return "–"
    if count < 999_500_000:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB"


def clip(text: str, limit: int = 600) -> str:
    """At most ``limit`` characters, saying how many more there are."""
    if len(text) <= limit:
        return text
    return f"{text[:limit].rstrip()}… ({len(text) - limit:,} characters more)"


def one_line(text: str, limit: int) -> str:
    """For a terminal: white space drawn together, nothing that a terminal would obey, at most ``limit`` characters.

    A model may write escape sequences, or marks that turn the direction of what follows.
    """
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return plain if len(plain) <= limit else f"{plain[: limit - 1].rstrip()}…"
