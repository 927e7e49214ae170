"""Whether people agree enough on a criterion to learn it, before anything is trained.

In: feedback and ``preferences.min_agreement``. Out: a line of agreement per criterion and segment, a refusal in words.
"""

from pathlib import Path

import polars as pl

from rewardloop.agreement import Agreement, agreement
from rewardloop.config import PreferenceSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import AgreementLine, PreferenceEvidence

ALL = "all"


def agreement_lines(feedback: pl.DataFrame, settings: PreferenceSettings) -> list[AgreementLine]:
    """Agreement by criterion and segment, each with the limit that judges it.

    A criterion is judged by the labels that count: all of them, or those of ``preferences.segments.only``.

    Raises:
        BadInputError: ``preferences.min_agreement`` names a criterion without labels.
    """
    limits, criteria = settings.min_agreement, _criteria(feedback)
    for name in limits if isinstance(limits, dict) else ():
        if name not in criteria:
            have = ", ".join(map(repr, criteria)) or "none"
            raise BadInputError(f"preferences.min_agreement: no label is on criterion {name!r}; criteria are {have}")
    judged = settings.segments.only or ALL
    lines = []
    for criterion in criteria:
        limit = limits.get(criterion) if isinstance(limits, dict) else limits
        for segment, part in {ALL: feedback, **_segments(feedback)}.items():
            raw, standardized = agreement(part, criterion), agreement(part, criterion, standardize=True)
            of_line = limit if segment == judged else None
            lines.append(
                AgreementLine(
                    criterion=criterion,
                    segment=segment,
                    alpha=raw.alpha,
                    low=raw.low,
                    high=raw.high,
                    alpha_standardized=standardized.alpha,
                    measurement=raw.measurement,
                    labelers=raw.labelers,
                    items=raw.items,
                    limit=of_line,
                    refused=of_line is not None and (raw.alpha is None or raw.alpha < of_line),
                )
            )
    return lines


def within_segments(feedback: pl.DataFrame, criterion: str) -> dict[str, Agreement]:
    """Segment -> agreement inside it."""
    return {segment: agreement(part, criterion) for segment, part in _segments(feedback).items()}


def check_agreement(evidence: PreferenceEvidence, divided: Path) -> None:
    """Raise BadInputError where people agree too little on the trained criterion.

    Args:
        evidence: what ``build_preferences`` wrote.
        divided: file with the pairs that divide people most.
    """
    for line in evidence.agreement:
        if not line.refused or line.criterion != evidence.criterion:
            continue
        where = "" if line.segment == ALL else f" in segment {line.segment!r}"
        if line.alpha is None:
            found = f"agreement{where} cannot be computed: {_why_unknown(line)}"
        else:
            interval = f" (95% interval {line.low:.3f} to {line.high:.3f})" if line.low is not None else ""
            found = f"people agree too little{where}: Krippendorff's alpha is {line.alpha:.3f}{interval}"
        raise BadInputError(
            f"build_preferences: criterion {line.criterion!r} is refused, {found}, and preferences.min_agreement is "
            f"{line.limit:g}. Nothing is trained. The pairs that divide people most are in {divided}: make the "
            "labeling instructions clear on them and ingest new labels, train segments apart (preferences.segments), "
            "or lower the limit."
        )


def _why_unknown(line: AgreementLine) -> str:
    if not line.items:
        return "no two people judged the same thing"
    return f"all values on the {line.items:,} things that several people judged are the same"


def _criteria(feedback: pl.DataFrame) -> list[str]:
    return feedback.select(pl.col("labels").explode()).unnest("labels")["criterion"].unique().sort().to_list()


def _segments(feedback: pl.DataFrame) -> dict[str, pl.DataFrame]:
    parts = feedback.partition_by("segment", as_dict=True)
    return {str(segment): part for (segment,), part in parts.items() if segment}
