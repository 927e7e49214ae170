"""Verdicts on the candidates of a run on film reviews, and what was registered."""

from rewardloop.evidence import Blessing, Check, PolicyRegistration, PolicyVerdict, RegistrationEvidence


def blessing(*, blessed: bool = True) -> Blessing:
    value, low = (0.878, 0.863) if blessed else (0.541, 0.526)
    verb = "is at least" if blessed else "is below"
    return Blessing(
        blessed=blessed,
        candidate="d1" * 32,
        champion="1",
        corpus_digest="c0" * 32,
        checks=[
            Check(
                name="min_accuracy",
                passed=blessed,
                value=value,
                low=low,
                high=value + 0.015,
                limit=0.8,
                rule="lower end of the interval >= limit",
                reason=f"accuracy {value} with lower end {low} {verb} 0.8",
            ),
            Check(
                name="max_ece",
                passed=True,
                value=0.018,
                limit=0.05,
                rule="value <= limit",
                reason="calibration error 0.018 is at most 0.05",
            ),
            Check(
                name="threshold",
                passed=blessed,
                value=0.13 if blessed else None,
                limit=None,
                rule="a threshold is certified",
                reason="certified on 1,300 calibration items" if blessed else "no threshold could be certified",
            ),
        ],
        reasons=[]
        if blessed
        else [
            f"min_accuracy: accuracy {value} with lower end {low} is below 0.8",
            "threshold: none could be certified",
        ],
    )


def policy_verdict(*, over_optimized: bool = False) -> PolicyVerdict:
    checks = [
        Check(
            name="gain of reward over the reference",
            passed=True,
            value=1.24,
            low=1.01,
            high=1.47,
            limit=0.0,
            rule="lower end of the interval > limit",
            reason="Gain of reward over the reference: 1.240 [1.010, 1.470]; the lower end is above 0.",
        ),
        Check(
            name="divergence from the reference (KL)",
            passed=True,
            value=5.03,
            limit=10.0,
            rule="value <= limit",
            reason="Divergence from the reference (KL): 5.030; the limit is 10.",
        ),
        Check(
            name="not over-optimized",
            passed=not over_optimized,
            value=-0.71 if over_optimized else 0.33,
            low=-0.92 if over_optimized else 0.12,
            high=-0.5 if over_optimized else 0.54,
            limit=0.0,
            rule="upper end of the second judge's interval >= limit",
            reason="Not over-optimized: the second judge "
            + ("finds the answers worse, -0.710 [-0.920, -0.500]." if over_optimized else "finds no loss."),
        ),
    ]
    return PolicyVerdict(
        blessed=not over_optimized,
        candidate="b2" * 32,
        checks=checks,
        reasons=[check.reason for check in checks if not check.passed],
    )


def policy_registration() -> PolicyRegistration:
    return PolicyRegistration(
        name="film-reviews-policy",
        version="4",
        reward_model="models:/film-reviews-reward/2",
        previous="3",
        manifest_digest="e6" * 32,
    )


def registration() -> RegistrationEvidence:
    return RegistrationEvidence(
        name="film-reviews-reward",
        version="2",
        champion=True,
        previous="1",
        threshold=0.13,
        history_sequence=2,
        manifest_digest="e5" * 32,
        parity_difference=3.2e-7,
    )
