"""The held-out figures of a policy as rows to read: each measure before and after, in the form that suits it.

In: ``PolicyEvaluationEvidence``. Out: rows of text for the report, and the verdict on over-optimization in words.
"""

from typing import NamedTuple

from rewardloop.evidence import (
    Change,
    CorpusEvidence,
    HumanComparison,
    JudgeLine,
    PerplexityLine,
    PolicyEvaluationEvidence,
)
from rewardloop.reporting.run_evidence import RunEvidence
from rewardloop.reporting.wording import compact, count, fraction, interval, percent, points, signed

_NONE = "–"


class MeasureRow(NamedTuple):
    """One measure of the reference's and of the policy's answers to the same prompts."""

    name: str
    note: str
    """What the measure is, or what its difference is of."""
    before: str
    after: str
    difference: str
    interval: str = _NONE


class ComparisonRow(NamedTuple):
    """Wins, ties and losses against the reference, by one judge."""

    name: str
    note: str
    line: JudgeLine | HumanComparison


def has_policy(evidence: RunEvidence) -> bool:
    """Whether there is anything to say of a policy."""
    parts = (evidence.sft, evidence.references, evidence.alignment, evidence.policy_evaluation)
    return any(part is not None for part in parts)


def measure_rows(evaluation: PolicyEvaluationEvidence) -> list[MeasureRow]:
    """What was measured, the reward first; what was not measured has no row."""
    rows = [_numbers("Reward", "standardized", evaluation.reward, 2)]
    if evaluation.accepted_share:
        rows.append(_shares("Accepted share", "by the certified threshold", evaluation.accepted_share))
    rows += [
        _numbers("Length", "tokens", evaluation.length, 1),
        _numbers_only("Distinct words", "distinct tokens over all tokens", evaluation.distinct_unigrams),
        _numbers_only("Distinct bigrams", "the same of pairs of tokens", evaluation.distinct_bigrams),
        _shares_only("Repetition", "4-grams that came before in their answer", evaluation.repetition),
        _shares_only("Unfinished", "answers without an end", evaluation.unfinished),
    ]
    for line in evaluation.toxicity:
        rows.append(_numbers("Toxicity", f"0 to 1, by {line.scorer}, {line.prompts}", line.change, 3))
    if evaluation.perplexity:
        rows.append(_perplexity(evaluation.perplexity))
    return rows


def over_optimization(evaluation: PolicyEvaluationEvidence) -> str:
    """Whether the reward model was pleased at the readers' cost, in one or two sentences."""
    if len(evaluation.judges) < 2:
        return "Over-optimization could not be told: there was no second judge."
    first, second = (line.gain for line in evaluation.judges[:2])
    if evaluation.over_optimized:
        return (
            "Over-optimized. The reward model likes the answers better, and a judge of another lineage surely likes "
            "them less: the policy has found what the reward model gets wrong."
        )
    if first.low <= 0:
        return "Not over-optimized: the reward model itself does not surely like the answers better."
    if second.low > 0:
        return "Not over-optimized: a judge of another lineage likes the answers better too."
    return (
        "No over-optimization was shown, nor is it ruled out: the reward model likes the answers better, and a judge "
        "of another lineage finds no sure difference."
    )


def judge_rows(evaluation: PolicyEvaluationEvidence) -> list[ComparisonRow]:
    """Each judge with its gain."""
    return [
        ComparisonRow(
            line.judge,
            f"gain {signed(line.gain.value, 2)} ({interval(line.gain, form='signed', digits=2)}); "
            f"ties up to {compact(line.tie_band)} apart",
            line,
        )
        for line in evaluation.judges
    ]


def comparison_rows(corpus: CorpusEvidence) -> list[ComparisonRow]:
    """Each earlier policy that people compared with its reference."""
    rows = []
    for line in corpus.comparisons:
        people = "labelers without identities" if line.labelers is None else f"{count(line.labelers)} labelers"
        said = f"{count(line.labels)} labels by {people} on {count(line.prompts)} prompts"
        rows.append(ComparisonRow(line.policy[:12], f"of run {line.run_id}: {said}", line))
    return rows


def _numbers(name: str, note: str, change: Change, digits: int) -> MeasureRow:
    return MeasureRow(
        name,
        note,
        fraction(change.before.value, digits),
        fraction(change.after.value, digits),
        signed(change.difference.value, digits),
        interval(change.difference, form="signed", digits=digits),
    )


def _shares(name: str, note: str, change: Change) -> MeasureRow:
    return MeasureRow(
        name,
        note,
        percent(change.before.value),
        percent(change.after.value),
        points(change.difference.value),
        interval(change.difference, form="points"),
    )


def _numbers_only(name: str, note: str, found: tuple[float, float]) -> MeasureRow:
    before, after = found
    return MeasureRow(name, note, fraction(before), fraction(after), signed(after - before))


def _shares_only(name: str, note: str, found: tuple[float, float]) -> MeasureRow:
    before, after = found
    return MeasureRow(name, note, percent(before), percent(after), points(after - before))


def _perplexity(line: PerplexityLine) -> MeasureRow:
    return MeasureRow(
        "Perplexity",
        f"{line.texts}; difference of the logarithms",
        fraction(line.before, 2),
        fraction(line.after, 2),
        signed(line.log_ratio.value),
        interval(line.log_ratio, form="signed"),
    )
