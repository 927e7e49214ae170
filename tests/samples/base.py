"""What all samples of evidence share."""

from rewardloop.evidence import Estimate

HOSTILE = "<script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)> A fine $film$ & more."


def estimate(value: float, half: float = 0.015, count: int = 48_211, unit: str = "pairs") -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, count=count, unit=unit)
