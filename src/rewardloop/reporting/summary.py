"""The short printed summary of a run: at most 25 lines of plain text, 40 with a policy."""

from textwrap import shorten, wrap

from rewardloop.evidence import (
    ChampionComparison,
    Estimate,
    EvaluationEvidence,
    JudgeLine,
    PolicyEvaluationEvidence,
    PolicySample,
    StepRecord,
    ThresholdEvidence,
    WarmStartEvidence,
)
from rewardloop.reporting.outcome import outcome_of
from rewardloop.reporting.run_evidence import RunEvidence
from rewardloop.reporting.wording import (
    compact,
    count,
    duration,
    fraction,
    interval,
    one_line,
    percent,
    signed,
    whole_percent,
)

_WIDTH = 118
_NAME = 33
_REASONS = 3
_SAMPLES = 2


def terminal_summary(evidence: RunEvidence) -> str:
    """What was measured, what was decided and why, where the time went, and where the report lies."""
    outcome = outcome_of(evidence)
    lines = wrap(outcome.headline, _WIDTH, break_on_hyphens=False)
    if outcome.kind == "failed":
        # The message of an error is all a reader has: it stays whole, line by line.
        lines += [f"  {line}" for reason in outcome.reasons for line in reason.splitlines()]
        lines.append(f"  What to do: {outcome.advice}")
    else:
        lines += [f"  - {shorten(reason, _WIDTH - 4, placeholder=' …')}" for reason in outcome.reasons[:_REASONS]]
        more = len(outcome.reasons) - _REASONS
        if more > 0:
            lines.append(f"  - and {more} more in the report")
    if evidence.training and evidence.training.warm_start:
        lines.append(_start(evidence.training.warm_start))
    if evidence.evaluation:
        lines += _accuracy(evidence.evaluation)
        lines += _threshold(evidence.evaluation.threshold)
        if evidence.evaluation.champion:
            lines.append(_champion(evidence.evaluation.champion))
    if evidence.policy_evaluation:
        budget = evidence.alignment.kl_budget if evidence.alignment else None
        lines += _policy(evidence.policy_evaluation, budget)
    lines += _time(evidence)
    lines.append(f"Report: {evidence.report}")
    return "\n".join(lines)


def _start(warm: WarmStartEvidence) -> str:
    name = warm.champion.removeprefix("models:/")
    if warm.used:
        groups = f"{count(warm.new_groups)} new groups, {count(warm.replayed_groups)} replayed"
        return _line("Trained on from the champion", "", f"{name}: {groups}")
    return _line("Trained from the base", "", shorten(warm.reason, _WIDTH - _NAME - 9, placeholder=" …"))


def _line(name: str, value: str, note: str) -> str:
    return f"{name:<{_NAME}}{value:>7}  {note}".rstrip()


def _accuracy(evaluation: EvaluationEvidence) -> list[str]:
    whole = evaluation.accuracy
    lines = [
        _line(
            "Accuracy on held-out pairs",
            fraction(whole.value),
            f"[{interval(whole)}]  {whole_percent(whole.level)} interval, {count(whole.count)} {whole.unit}",
        )
    ]
    baselines = (
        ("bag of words", evaluation.bag_of_words, evaluation.over_bag_of_words),
        ("longer answer wins", evaluation.length_only, evaluation.over_length_only),
    )
    for name, baseline, ahead in baselines:
        note = f"[{interval(baseline)}]  candidate {signed(ahead.value)} [{interval(ahead, form='signed')}]"
        lines.append(_line(f"  {name}", fraction(baseline.value), note))
    if evaluation.one_labeler:
        note = f"[{interval(evaluation.one_labeler)}]  a reference, not a ceiling"
        lines.append(_line("  one labeler against the others", fraction(evaluation.one_labeler.value), note))
    return lines


def _threshold(threshold: ThresholdEvidence) -> list[str]:
    if not threshold.certified:
        needed = f"; about {count(threshold.items_needed)} calibration items needed" if threshold.items_needed else ""
        have = f"not certified on {count(threshold.calibration_items)} calibration items{needed}"
        return [_line("Threshold", "none", have), f"  {shorten(threshold.reason, _WIDTH - 2, placeholder=' …')}"]
    promise = f"at most {whole_percent(threshold.alpha)} of what it accepts is unacceptable"
    lines = [
        _line(
            "Threshold",
            fraction(threshold.threshold),
            f"{promise}, {whole_percent(1 - threshold.delta)} confidence*",
        )
    ]
    rates: tuple[tuple[str, Estimate | None], ...] = (
        ("unacceptable among accepted", threshold.unacceptable_among_accepted),
        ("false-accept rate", threshold.false_accept_rate),
        ("false-block rate", threshold.false_block_rate),
        ("accepted share", threshold.accepted_share),
    )
    for name, rate in rates:
        if rate:
            note = f"[{interval(rate, form='percent')}]  {count(rate.count)} {rate.unit}"
            lines.append(_line(f"  {name}", percent(rate.value), note))
    lines.append("  * of answers like those labeled, not of a policy's new outputs")
    return lines


def _champion(champion: ChampionComparison) -> str:
    flips = "" if champion.flip_rate is None else f", {percent(champion.flip_rate)} of decisions flip"
    note = f"[{interval(champion.difference, form='signed')}]  same pairs{flips}"
    return _line(f"Against champion, version {champion.version}", signed(champion.difference.value), note)


def _policy(measured: PolicyEvaluationEvidence, budget: float | None) -> list[str]:
    gain = measured.reward
    ends = f"{fraction(gain.before.value, 2)} → {fraction(gain.after.value, 2)}"
    found = interval(gain.difference, form="signed", digits=2)
    note = f"[{found}]  {ends} on {count(measured.prompts)} held-out prompts"
    lines = [_line("Policy's gain in reward", signed(gain.difference.value, 2), note)]
    names = ("wins against the reference", "wins by the second judge")
    for name, judge in zip(names, measured.judges, strict=False):
        lines.append(_judge(name, judge))
    within = "" if budget is None else f" of {compact(budget)}"
    note = f"[{interval(measured.kl, digits=2)}]  nats{within}"
    lines.append(_line("  KL from the reference", fraction(measured.kl.value, 2), note))
    length, bigrams = measured.length, measured.distinct_bigrams
    short = f"{fraction(length.before.value, 1)} → {fraction(length.after.value, 1)} tokens"
    lines.append(f"  length {short}, distinct bigrams {fraction(bigrams[0], 2)} → {fraction(bigrams[1], 2)}")
    for sample in measured.samples[:_SAMPLES]:
        lines += _sample(sample)
    return lines


def _judge(name: str, judge: JudgeLine) -> str:
    note = f"[{interval(judge.win_rate, form='percent')}]  {judge.judge}, ties half"
    return _line(f"  {name}", percent(judge.win_rate.value), note)[:_WIDTH]


def _sample(sample: PolicySample) -> list[str]:
    """What a model wrote may hold anything: one line each, without what a terminal would obey."""
    rows = (
        ("reference", sample.reference_reward, sample.reference),
        ("policy", sample.policy_reward, sample.policy),
    )
    starts = [f"    {name:<9} {signed(reward, 2):>6}  " for name, reward, _ in rows]
    said = [start + one_line(text, _WIDTH - len(start)) for start, (_, _, text) in zip(starts, rows, strict=True)]
    return [f"  “{one_line(sample.prompt, _WIDTH - 4)}”", *said]


def _time(evidence: RunEvidence) -> list[str]:
    """Two steps a line, in the order they ran."""
    cells = [f"{step.step:<22}{_step_time(step):>12}" for step in evidence.work_steps]
    pairs = [cells[start : start + 2] for start in range(0, len(cells), 2)]
    return [f"Time: {duration(evidence.seconds)}", *("  " + "    ".join(pair) for pair in pairs)]


def _step_time(step: StepRecord) -> str:
    if step.status in {"cached", "failed"}:
        return step.status
    return "unfinished" if step.status == "running" else duration(step.seconds)
