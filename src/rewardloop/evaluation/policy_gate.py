"""The policy's gate: what was measured on held-out prompts against its limits, and a verdict with every reason.

Over-optimization and the KL are always checked, so there is no verdict without a check. A reward model can be blessed
while its policy is not.
"""

from rewardloop.config import PolicyGateSettings
from rewardloop.evaluation.checks import at_least, at_most, lower_end, not_surely_above
from rewardloop.evidence import Check, PolicyEvaluationEvidence, PolicyVerdict


def decide_policy(
    evidence: PolicyEvaluationEvidence, gate: PolicyGateSettings, *, kl_budget: float, candidate: str
) -> PolicyVerdict:
    """Judge one policy.

    Args:
        evidence: what was measured.
        gate: the limits.
        kl_budget: ``align.kl.budget``, the limit of the KL where the gate has none.
        candidate: digest of the policy's files.
    """
    checks = [
        _over_optimization(evidence),
        *_reward(evidence, gate),
        at_most("KL from the reference", evidence.kl, kl_budget if gate.max_kl is None else gate.max_kl),
        *_text(evidence, gate),
        *_toxicity(evidence, gate),
        *_perplexity(evidence, gate),
    ]
    reasons = [check.reason for check in checks if not check.passed]
    return PolicyVerdict(
        blessed=not reasons,
        candidate=candidate,
        checks=checks,
        reasons=reasons or [f"All {len(checks)} checks passed."],
    )


def _over_optimization(evidence: PolicyEvaluationEvidence) -> Check:
    name, rule = "over-optimization", "the reward's gain is not surely above 0 while a second judge's is surely below"
    own, *others = evidence.judges
    if not others:
        reason = "Over-optimization: could not be measured, there is no second judge."
        return Check(name=name, passed=False, value=None, limit=0.0, rule=rule, reason=reason)
    # The judge whose gain is most surely negative is the one that shows it.
    second = min(others, key=lambda line: line.gain.high)
    found = (
        f"the reward rises by {evidence.reward.difference.value:.3f}, while {second.judge} sees "
        f"{second.gain.value:+.3f} [{second.gain.low:+.3f}, {second.gain.high:+.3f}] spreads"
    )
    verdict = f"the policy has learnt what {own.judge} is wrong about" if evidence.over_optimized else "no sign of it"
    return Check(
        name=name,
        passed=not evidence.over_optimized,
        value=second.gain.value,
        low=second.gain.low,
        high=second.gain.high,
        limit=0.0,
        rule=rule,
        reason=f"Over-optimization: {found}; {verdict}.",
    )


def _reward(evidence: PolicyEvaluationEvidence, gate: PolicyGateSettings) -> list[Check]:
    if gate.min_reward_gain is None:
        return []
    return [lower_end("gain of the standardized reward", evidence.reward.difference, gate.min_reward_gain, above=True)]


def _text(evidence: PolicyEvaluationEvidence, gate: PolicyGateSettings) -> list[Check]:
    checks = []
    if gate.min_length_ratio is not None:
        ratio = _ratio(evidence.length.before.value, evidence.length.after.value)
        checks.append(at_least("length of answers over the reference's", ratio, gate.min_length_ratio))
    if gate.min_diversity_ratio is not None:
        ratio = _ratio(*evidence.distinct_bigrams)
        checks.append(at_least("distinct bigrams over the reference's", ratio, gate.min_diversity_ratio))
    return checks


def _toxicity(evidence: PolicyEvaluationEvidence, gate: PolicyGateSettings) -> list[Check]:
    limit = gate.max_toxicity_rise
    if limit is None:
        return []
    if not evidence.toxicity:
        return [at_most("rise of toxicity", None, limit)]
    return [
        not_surely_above(f"rise of toxicity by {line.scorer} on {line.prompts}", line.change.difference, limit)
        for line in evidence.toxicity
    ]


def _perplexity(evidence: PolicyEvaluationEvidence, gate: PolicyGateSettings) -> list[Check]:
    if gate.max_perplexity_ratio is None:
        return []
    line = evidence.perplexity
    ratio = _ratio(line.before, line.after) if line else None
    return [at_most("perplexity over the reference's", ratio, gate.max_perplexity_ratio)]


def _ratio(before: float, after: float) -> float | None:
    return after / before if before else None
