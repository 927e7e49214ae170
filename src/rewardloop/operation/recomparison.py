"""The gate against the champion of this moment, for a version that was blessed against another one.

In: settings, two registered versions. Out: the gate's own checks of the one against the other, on the test split and
the golden set of the newer one's corpus: the very steps that a run takes up to its evaluation, and the same judgement.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl

from rewardloop.bootstrap import Floats
from rewardloop.config import Settings
from rewardloop.errors import BadInputError
from rewardloop.evaluation.against_champion import ChampionScores, compare_with_champion
from rewardloop.evaluation.gate_champion import against_champion
from rewardloop.evaluation.metrics import counting
from rewardloop.evidence import Check
from rewardloop.feedback.golden import documents_in_use, use_golden
from rewardloop.feedback.known_batches import known_batches
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.records import text_digest
from rewardloop.steps.build_preferences import build_preferences
from rewardloop.steps.load_corpus import load_corpus
from rewardloop.steps.validate_feedback import validate_feedback
from rewardloop.storage import Storage
from rewardloop.tracking.promotion import Compare
from rewardloop.tracking.registry import load_scorer, version_tags

_COMPARED = ("test", "golden")
_OF_A_RUN = ("REWARDLOOP_RUN_DIR", "REWARDLOOP_MLFLOW_RUN_ID", "TMPDIR")
"""What a run puts into the environment for its steps."""


def comparison(settings: Settings, store: str, tracking_uri: str) -> Compare:
    """What ``promote`` and ``approve`` ask when the champion is another than the gate compared with.

    Args:
        settings: the checked settings.
        store: URL of the feedback store.
        tracking_uri: what ``connect`` returned.
    """

    def compare(candidate: str, champion: str) -> Sequence[Check]:
        return compare_versions(settings, store, tracking_uri, candidate=candidate, champion=champion)

    return compare


def compare_versions(
    settings: Settings, store: str, tracking_uri: str, *, candidate: str, champion: str
) -> list[Check]:
    """The gate's checks of one version of the reward model against another; a use of the golden set.

    Raises:
        BadInputError: the corpus is not in this store, or the two have no pair that both can score.
        RewardloopError: a version's files are not those that were registered.
    """
    uris = {version: f"models:/{settings.model_name}/{version}" for version in (candidate, champion)}
    tags = {version: version_tags(uri, tracking_uri) for version, uri in uris.items()}
    newer = max(candidate, champion, key=int)
    if "corpus_digest" not in tags[newer]:
        raise BadInputError(f"{uris[newer]}: has no tag corpus_digest, so there is nothing to compare it on")
    items, pairs = _tables(settings, store, tags[newer]["corpus_digest"])
    wanted, storage = settings.evaluation, Storage.open(store)
    golden = counting(pairs, "golden", wanted)
    present = set(items["document"].gather(pl.concat([golden["a"], golden["b"]]).unique().sort()))
    scorers = {version: load_scorer(uri, tracking_uri) for version, uri in uris.items()}
    public = {version: _public(scorer, items, wanted.tokens_per_batch) for version, scorer in scorers.items()}
    # Against another champion it is another look, and the golden set wears by it; the same look again is not.
    look = text_digest(f"{tags[candidate].get('candidate_digest', candidate)} against {uris[champion]}")
    measured = compare_with_champion(
        items,
        pairs,
        public[candidate],
        scorers[candidate].threshold,
        ChampionScores(
            champion,
            public[champion],
            scorers[champion].threshold,
            batches=known_batches(tags[champion], store),
            golden_documents=frozenset(documents_in_use(storage, present)),
            golden_use=use_golden(storage, look, present),
        ),
        wanted,
    )
    return against_champion(measured, settings.gate, champion)


def _tables(settings: Settings, store: str, corpus_digest: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """``ITEMS`` and ``PAIRS`` of a corpus, made by the same steps as in its run, in a process of their own.

    A watch approves versions while a run is at work in its process, and steps write to the run that they find in the
    environment.
    """
    wanted = settings.section("validation", "preferences", "splits", "evaluation")
    with (
        tempfile.TemporaryDirectory() as temporary,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _leave_the_run) as alone,
    ):
        alone.submit(_make_tables, wanted, store, corpus_digest, Path(temporary)).result()
        preferences = Path(temporary) / "preferences"
        return pl.read_parquet(preferences / "items.parquet"), pl.read_parquet(preferences / "pairs.parquet")


def _leave_the_run() -> None:
    for name in _OF_A_RUN:
        os.environ.pop(name, None)


def _make_tables(settings: str, store: str, corpus_digest: str, folder: Path) -> None:
    corpus, validated = folder / "corpus", folder / "validated"
    load_corpus(store=store, corpus_digest=corpus_digest, code_version="", corpus=corpus)
    validate_feedback(
        corpus=corpus,
        store=store,
        settings=settings,
        code_version="",
        validated=validated,
        data_docs=folder / "data_docs",
        # A run has accepted this corpus; the limits of now may be others, and a comparison must not refuse a batch.
        verdicts_count=False,
    )
    build_preferences(
        validated=validated, store=store, settings=settings, code_version="", preferences=folder / "preferences"
    )


def _public(scorer: RewardScorer, items: pl.DataFrame, tokens: int) -> Floats:
    """Public scores of the compared items, NaN for all others; shape (items,)."""
    chosen = items.filter(pl.col("split").is_in(_COMPARED))
    everything = np.full(len(items), np.nan)
    everything[chosen["item"].to_numpy()] = scorer.raw_scores(
        chosen["prompt"].to_list(), chosen["response"].to_list(), tokens_per_batch=tokens
    )
    return scorer.public(everything)
