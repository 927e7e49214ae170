"""Many labelers become pairs with soft labels, in splits that never share a document.

In: validated feedback. Out: ``items.parquet`` (one row per answer) and ``pairs.parquet`` (one row per compared pair).
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import DividedPairs, PreferenceEvidence, SplitLine
from rewardloop.feedback.store import FeedbackStore
from rewardloop.kept import Kept
from rewardloop.preferences.agreement_gate import check_agreement
from rewardloop.preferences.build import Preferences, build
from rewardloop.preferences.parts import LargePreferences, build_if_large
from rewardloop.preferences.told import tell
from rewardloop.records import SPLITS
from rewardloop.snapshots import read_snapshot
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
        BadInputError: people agree less on the criterion than ``preferences.min_agreement`` asks for, a split that
            training or evaluation cannot do without has no usable pair, or the configuration names a segment or a
            criterion that the feedback does not have.
    """
    del code_version  # known to the cache, not to the work
    sections = json.loads(settings)
    wanted = PreferenceSettings.model_validate(sections["preferences"])
    with step_run("build_preferences", inputs=[validated], output=preferences) as run:
        snapshot = read_snapshot(validated)
        opened = FeedbackStore.open(store)
        given: dict[str, Any] = {
            "preferences": wanted,
            "splits": opened.splits() or SplitSettings.model_validate(sections["splits"]),
            "evaluation": EvaluationSettings.model_validate(sections["evaluation"]),
            "golden": frozenset(opened.golden_documents()),
        }
        built: Preferences | None = None
        with tempfile.TemporaryDirectory(prefix="rewardloop-preferences-") as folder:
            large = build_if_large(snapshot, Kept(opened.storage), Path(folder), preferences, **given)
        if large is None:
            built, evidence = _whole(snapshot.scan().collect(), wanted, given)
        else:
            evidence = _in_parts(large, snapshot.count, wanted)
        run.write("preferences", evidence)
        run.write("divided", DividedPairs(criterion=wanted.criterion, pairs=evidence.divided))
        check_agreement(evidence, run.folders[-1] / "evidence" / "divided.json")
        _check(evidence)
        if built is not None:
            built.items.write_parquet(preferences / "items.parquet")
            built.pairs.write_parquet(preferences / "pairs.parquet")
        train = evidence.splits[0]
        answers = sum(line.items for line in evidence.splits)
        run.produced = (
            f"{answers:,} answers; train {train.groups:,} groups, {train.pairs:,} pairs; "
            f"left out {sum(evidence.left_out.values()):,}"
        )


def _whole(
    feedback: pl.DataFrame, wanted: PreferenceSettings, given: dict[str, Any]
) -> tuple[Preferences, PreferenceEvidence]:
    built = build(feedback, **given)
    evidence = PreferenceEvidence(
        criterion=wanted.criterion,
        groups_in=len(feedback),
        groups_used=built.groups_used,
        groups_built=built.items.filter(pl.col("group") >= 0)["group"].n_unique(),
        left_out=built.left_out,
        splits=[_split_line(built, split) for split in SPLITS],
        acceptability=built.acceptability,
        one_labeler=built.one_labeler,
        divided=built.divided,
        **dict(tell(feedback, wanted, built.opinions)),
    )
    return built, evidence


def _in_parts(built: LargePreferences, groups: int, wanted: PreferenceSettings) -> PreferenceEvidence:
    """A large corpus: agreement and what is known of labelers come from a sample, everything else from all of it."""
    return PreferenceEvidence(
        criterion=wanted.criterion,
        groups_in=groups,
        groups_used=built.groups_used,
        groups_built=built.groups_built,
        left_out=built.left_out,
        splits=built.splits,
        acceptability=built.acceptability,
        one_labeler=built.one_labeler,
        divided=built.divided,
        **dict(built.told),
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
