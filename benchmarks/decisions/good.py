"""Candidates that deserve a blessing, judged by the same steps with the same limits as the faulty ones."""

from collections.abc import Callable

from benchmarks.decisions import scene
from benchmarks.decisions.scene import Scene, Verdict


def better(at: Scene, seed: int) -> Verdict:
    """Truly better than the champion by 3 points of accuracy, in every segment."""
    return at.judge(at.sound(scene.CHAMPION_ACCURACY + 0.03))


def equal(at: Scene, seed: int) -> Verdict:
    """As accurate as the champion in every segment, with other errors: not worse by the gate's margin."""
    return at.judge(at.sound(scene.CHAMPION_ACCURACY))


def unharmed(at: Scene, seed: int) -> Verdict:
    """The candidate that faults are planted in, without one: a gate that refuses it catches nothing."""
    return at.judge(at.sound())


GOOD: dict[str, tuple[str, Callable[[Scene, int], Verdict]]] = {
    "better_by_3_points": ("large", better),
    "equal": ("large", equal),
    "unharmed": ("small", unharmed),
}
"""Kind -> size of the scene, and what judges it."""
