"""The gate's checks against the champion: as good as a whole, on the golden set and on every slice, and still current.

In: the comparison, the limits, the champion of this moment. Out: checks.
"""

from rewardloop.config import GateSettings
from rewardloop.evaluation.checks import lower_end
from rewardloop.evaluation.comparison import judge_slices, pooled, slice_checks
from rewardloop.evaluation.golden_wear import fresh_due
from rewardloop.evidence import ChampionComparison, Check, Estimate, SliceVerdict


def against_champion(champion: ChampionComparison | None, gate: GateSettings, champion_now: str | None) -> list[Check]:
    """Checks of the comparison; the one of the current champion alone where nothing was compared."""
    if champion is None:
        return [] if champion_now is None else [_current(None, champion_now)]
    checks = [
        _current(champion.version, champion_now),
        _not_worse(
            f"not worse than champion {champion.version} on test", champion.difference, champion.documents, gate
        ),
    ]
    if champion.golden_difference is not None:
        name = f"not worse than champion {champion.version} on the golden set"
        checks.append(_not_worse(name, champion.golden_difference, champion.golden_documents, gate))
    if gate.better_than_champion_by is not None:
        name = f"better than champion {champion.version} on test"
        checks.append(lower_end(name, champion.difference, gate.better_than_champion_by, above=True))
    return checks + slice_checks(judged_slices(champion, gate), champion.version)


def judged_slices(champion: ChampionComparison | None, gate: GateSettings) -> list[SliceVerdict]:
    """Every slice against the margin, those that are too small to be judged too; none without a margin."""
    if champion is None or gate.not_worse_on_slices_by is None:
        return []
    return judge_slices(champion.slices, margin=gate.not_worse_on_slices_by)


def golden_notes(champion: ChampionComparison | None, gate: GateSettings, confidence: float) -> list[str]:
    """That fresh golden labels are due, if they are.

    Args:
        champion: the comparison.
        gate: ``golden_uses`` and the margin.
        confidence: of the first use of a golden set.
    """
    if champion is None or champion.golden_use is None:
        return []
    due = fresh_due(
        champion.golden_use,
        allowed=gate.golden_uses,
        difference=champion.golden_difference,
        documents=champion.golden_documents,
        margin=gate.not_worse_than_champion_by,
        confidence=confidence,
    )
    return [due] if due else []


def _not_worse(name: str, difference: Estimate, documents: int | None, gate: GateSettings) -> Check:
    """Non-inferiority; where it fails, with the number of documents that would decide."""
    margin = gate.not_worse_than_champion_by
    check = lower_end(name, difference, 0.0 - margin, above=True)  # never "-0"
    if check.passed or not margin > 0 or not documents:
        return check
    sized = pooled(difference, documents, margin=margin, power=gate.power)
    return check.model_copy(update={"reason": f"{check.reason} {sized.reason}"})


def _current(compared: str | None, now: str | None) -> Check:
    passed = compared == now
    against = "no champion" if compared is None else f"version {compared}"
    current = "there is none now" if now is None else f"the champion is version {now} now"
    return Check(
        name="compared with today's champion",
        passed=passed,
        value=None,
        limit=None,
        rule="the champion that was compared with is the champion now",
        reason=f"Compared with {against}; {current}." + ("" if passed else " Run again to compare with that."),
    )
