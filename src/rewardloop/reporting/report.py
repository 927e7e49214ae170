"""The HTML report of a run: one file that opens anywhere, for the person who answers for the decision.

In: ``RunEvidence``. Out: HTML with its style and pictures inside, no script and nothing fetched. Texts from feedback
are hostile until proven otherwise: every value is escaped, and answers are shown at most 600 characters long.
"""

import re
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rewardloop import __version__
from rewardloop.evidence import BatchVerdict, Evidence, ExpectationLine, StepRecord, ValidationEvidence
from rewardloop.reporting import plots, wording
from rewardloop.reporting.outcome import outcome_of
from rewardloop.reporting.plots_policy import policy_pictures
from rewardloop.reporting.policy_figures import comparison_rows, has_policy, judge_rows, measure_rows, over_optimization
from rewardloop.reporting.run_evidence import RunEvidence

__all__ = ["RunEvidence", "render_report"]


def render_report(evidence: RunEvidence) -> str:
    """The whole report as HTML; parts that the run never reached are named instead of shown."""
    environment = Environment(
        loader=PackageLoader("rewardloop.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("count", "fraction", "signed", "percent", "whole_percent", "compact", "interval", "clip")
    environment.filters.update({name: getattr(wording, name) for name in names})
    environment.filters |= {"moment": _moment, "code": _code, "duration": _duration, "size": _size}
    measured = evidence.policy_evaluation
    source, _, _ = PackageLoader("rewardloop.reporting").get_source(environment, "report.css")
    return environment.get_template("report.html.j2").render(
        evidence=evidence,
        outcome=outcome_of(evidence),
        style=Markup(source),  # noqa: S704 - our own file
        plots=_plots(evidence),
        missing=_missing(evidence),
        inspections=_inspections(evidence.validation),
        has_policy=has_policy(evidence),
        measures=measure_rows(measured) if measured else [],
        judges=judge_rows(measured) if measured else [],
        over_optimization=over_optimization(measured) if measured else "",
        comparisons=comparison_rows(evidence.corpus) if evidence.corpus else [],
        longest=max((step.seconds or 0.0 for step in evidence.work_steps), default=0.0),
        slowest=_slowest(evidence.work_steps),
        measured_resources=any(step.peak_memory_bytes is not None for step in evidence.work_steps),
        measured_gpu=any(step.peak_gpu_memory_bytes is not None for step in evidence.work_steps),
        version=__version__,
    )


def _plots(evidence: RunEvidence) -> dict[str, Markup | None]:
    pictures = policy_pictures(evidence.sft, evidence.alignment)
    if evidence.training:
        pictures["loss"] = plots.training_curve(evidence.training, "loss")
        pictures["training_accuracy"] = plots.training_curve(evidence.training, "accuracy")
    if evidence.evaluation:
        pictures["accuracy"] = plots.accuracy_chart(evidence.evaluation)
        pictures["differences"] = plots.difference_chart(evidence.evaluation)
        pictures["reliability"] = plots.reliability_diagram(evidence.evaluation.reliability)
        pictures["histogram"] = plots.score_histogram(evidence.evaluation)
        pictures["threshold"] = plots.threshold_curve(evidence.evaluation.threshold)
    return pictures


def _missing(evidence: RunEvidence) -> list[str]:
    """Chapters that the run did not get to."""
    parts: dict[str, Evidence | None] = {
        "the batches": evidence.corpus,
        "validation": evidence.validation,
        "preferences and splits": evidence.preferences,
        "training": evidence.training,
        "held-out accuracy and threshold": evidence.evaluation,
    }
    if evidence.aligns and not evidence.alignment_not_started:
        parts |= {"the policy's alignment": evidence.alignment, "the policy's figures": evidence.policy_evaluation}
    parts["the gate's checks"] = evidence.blessing
    return [name for name, part in parts.items() if part is None]


def _inspections(validation: ValidationEvidence | None) -> list[tuple[BatchVerdict, list[ExpectationLine]]]:
    """Each batch with its expectations, what failed first."""
    if validation is None:
        return []
    return [
        (
            batch,
            sorted(
                (line for line in validation.expectations if line.batch == batch.digest),
                key=lambda line: (line.passed, line.level == "row"),
            ),
        )
        for batch in validation.batches
    ]


def _slowest(steps: list[StepRecord]) -> StepRecord | None:
    ran = [step for step in steps if step.status != "cached" and step.seconds]
    return max(ran, key=lambda step: step.seconds or 0.0, default=None)


def _duration(seconds: float | None) -> str:
    """As everywhere, but a line never ends inside it."""
    return wording.duration(seconds).replace(" ", "\N{NO-BREAK SPACE}")


def _size(count: int | None) -> str:
    return wording.size(count).replace(" ", "\N{NO-BREAK SPACE}")


def _code(text: str) -> Markup:
    """Text with its `commands` set as code, everything escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _moment(text: str) -> str:
    """2026-01-31T12:00:00+00:00 -> "31 January 2026, 12:00 UTC"; anything else as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = f" {moment.tzname()}" if moment.tzinfo else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"
