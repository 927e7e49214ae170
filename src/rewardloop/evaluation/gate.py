"""The gate: every configured limit against the evidence, and a verdict with every reason.

A candidate is blessed when each check passes and at least one absolute limit is configured: with no limits nothing is
ever blessed. A value that could not be measured never passes.
"""

from rewardloop.config import GateSettings
from rewardloop.evaluation.checks import at_most, lower_end
from rewardloop.evidence import NO_CHAMPION, Blessing, Check, EvaluationEvidence

_NO_LIMITS = "No limit is configured in the section gate, so nothing can be blessed: set gate.min_accuracy at least."


def decide(evaluation: EvaluationEvidence, gate: GateSettings, *, candidate: str, corpus_digest: str) -> Blessing:
    """Judge one candidate.

    Args:
        evaluation: what was measured.
        gate: the limits.
        candidate: digest of the candidate's files.
        corpus_digest: what it was trained on.
    """
    checks = [*_absolute(evaluation, gate), *_against_champion(evaluation, gate)]
    reasons = [check.reason for check in checks if not check.passed]
    if not gate.any_limit():
        reasons.insert(0, _NO_LIMITS)
    blessed = not reasons
    return Blessing(
        blessed=blessed,
        candidate=candidate,
        champion=evaluation.champion.version if evaluation.champion else NO_CHAMPION,
        corpus_digest=corpus_digest,
        checks=checks,
        reasons=[f"All {len(checks)} checks passed."] if blessed else reasons,
    )


def _absolute(evaluation: EvaluationEvidence, gate: GateSettings) -> list[Check]:
    checks = []
    if gate.min_accuracy is not None:
        checks.append(lower_end("accuracy on test pairs", evaluation.accuracy, gate.min_accuracy))
    if gate.min_over_length_only is not None:
        checks.append(lower_end("advantage over length only", evaluation.over_length_only, gate.min_over_length_only))
    if gate.min_over_bag_of_words is not None:
        name = "advantage over bag of words"
        checks.append(lower_end(name, evaluation.over_bag_of_words, gate.min_over_bag_of_words))
    if gate.max_ece is not None:
        checks.append(at_most("calibration error (ECE)", evaluation.ece, gate.max_ece))
    unscored = evaluation.unscored / evaluation.held_out
    checks.append(at_most("held-out answers too long to be scored", unscored, gate.max_unscored))
    if gate.require_threshold:
        checks.append(_threshold(evaluation))
    if gate.max_unacceptable_among_accepted is not None:
        measured = evaluation.threshold.unacceptable_among_accepted
        limit = gate.max_unacceptable_among_accepted
        checks.append(at_most("unacceptable among accepted, on test", measured.value if measured else None, limit))
    return checks


def _against_champion(evaluation: EvaluationEvidence, gate: GateSettings) -> list[Check]:
    champion = evaluation.champion
    if champion is None:
        return []
    limit = 0.0 - gate.not_worse_than_champion_by  # never "-0"
    checks = [lower_end(f"not worse than champion {champion.version} on test", champion.difference, limit, above=True)]
    if champion.golden_difference is not None:
        name = f"not worse than champion {champion.version} on the golden set"
        checks.append(lower_end(name, champion.golden_difference, limit, above=True))
    if gate.better_than_champion_by is not None:
        name = f"better than champion {champion.version} on test"
        checks.append(lower_end(name, champion.difference, gate.better_than_champion_by, above=True))
    return checks


def _threshold(evaluation: EvaluationEvidence) -> Check:
    threshold = evaluation.threshold
    return Check(
        name="threshold certified",
        passed=threshold.certified,
        value=threshold.p_value,
        limit=threshold.delta,
        rule="p-value on the calibration split <= delta",
        reason=threshold.reason if threshold.certified else f"No threshold could be certified. {threshold.reason}",
    )
