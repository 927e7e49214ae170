"""Many labelers become pairs with soft labels, in splits that never share a document.

In: validated feedback. Out: ``items.parquet`` (one row per answer) and ``pairs.parquet`` (one row per compared pair).
"""

import json
from pathlib import Path

import polars as pl

from rewardloop.agreement import agreement
from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import AgreementLine, PreferenceEvidence, SplitLine
from rewardloop.feedback.store import FeedbackStore
from rewardloop.preferences.build import Preferences, build
from rewardloop.records import SPLITS
from rewardloop.steps.step_run import step_run


def build_preferences(*, validated: Path, store: str, settings: str, code_version: str, preferences: Path) -> None:
    """Build the preferences of one corpus.

    Args:
        validated: output of ``validate_feedback``.
        store: URL of the feedback store, for the frozen splits and the golden documents.
        settings: JSON with the sections ``preferences``, ``splits`` and ``evaluation``.
        code_version: fingerprint of the code; part of the pipeline's cache key.
        preferences: output folder.

    Raises:
        BadInputError: a split that training or evaluation cannot do without has no usable pair.
    """
    del code_version  # known to the cache, not to the work
    sections = json.loads(settings)
    wanted = PreferenceSettings.model_validate(sections["preferences"])
    with step_run("build_preferences", inputs=[validated], output=preferences) as run:
        feedback = pl.read_parquet(validated / "records.parquet")
        opened = FeedbackStore.open(store)
        built = build(
            feedback,
            preferences=wanted,
            splits=opened.splits() or SplitSettings.model_validate(sections["splits"]),
            evaluation=EvaluationSettings.model_validate(sections["evaluation"]),
            golden=frozenset(opened.golden_documents()),
        )
        evidence = PreferenceEvidence(
            criterion=wanted.criterion,
            groups_in=len(feedback),
            groups_used=built.groups_used,
            groups_built=built.items.filter(pl.col("group") >= 0)["group"].n_unique(),
            left_out=built.left_out,
            splits=[_split_line(built, split) for split in SPLITS],
            agreement=_agreement(feedback),
            acceptability=built.acceptability,
            one_labeler=built.one_labeler,
        )
        run.write("preferences", evidence)
        _check(evidence)
        built.items.write_parquet(preferences / "items.parquet")
        built.pairs.write_parquet(preferences / "pairs.parquet")
        train = evidence.splits[0]
        run.produced = (
            f"{len(built.items):,} answers; train {train.groups:,} groups, {train.pairs:,} pairs; "
            f"left out {sum(evidence.left_out.values()):,}"
        )


def _split_line(built: Preferences, split: str) -> SplitLine:
    items, pairs = built.items.filter(split=split), built.pairs.filter(split=split)
    acceptable = items["acceptable"].drop_nulls()
    return SplitLine(
        split=split,
        groups=items.filter(pl.col("group") >= 0)["group"].n_unique(),
        items=len(items),
        documents=items["document"].n_unique(),
        pairs=len(pairs),
        ties=int((pairs["p"] == 0.5).sum()),
        acceptable=int(acceptable.sum()),
        unacceptable=int((~acceptable).sum()),
    )


def _agreement(feedback: pl.DataFrame) -> list[AgreementLine]:
    criteria = feedback.select(pl.col("labels").explode()).unnest("labels")["criterion"].unique().sort()
    segments = {"all": feedback} | {
        str(segment): part for (segment,), part in feedback.partition_by("segment", as_dict=True).items() if segment
    }
    lines = []
    for criterion in criteria:
        for segment, part in segments.items():
            raw, standardized = agreement(part, criterion), agreement(part, criterion, standardize=True)
            lines.append(
                AgreementLine(
                    criterion=criterion,
                    segment=segment,
                    alpha=raw.alpha,
                    alpha_standardized=standardized.alpha,
                    measurement=raw.measurement,
                    labelers=raw.labelers,
                    items=raw.items,
                )
            )
    return lines


def _check(evidence: PreferenceEvidence) -> None:
    """Training needs decided pairs to learn from, to stop by and to be judged by."""
    for line in evidence.splits:
        if line.split not in ("train", "validation", "test") or line.pairs > line.ties:
            continue
        found = (
            f"{line.pairs:,} pairs, all of them ties" if line.pairs else f"{line.items:,} answers and no compared pair"
        )
        reasons = "; ".join(f"{count:,} left out: {why}" for why, count in evidence.left_out.items())
        criteria = ", ".join(repr(name) for name in dict.fromkeys(one.criterion for one in evidence.agreement))
        raise BadInputError(
            f"build_preferences: the {line.split} split has {found} on criterion {evidence.criterion!r}"
            f"{f' ({reasons})' if reasons else ''}. Nothing can be learnt from ties: ingest feedback in which people "
            f"prefer one answer to another, name another preferences.criterion (there are labels on {criteria}), or "
            "enlarge the split in a new store."
        )
