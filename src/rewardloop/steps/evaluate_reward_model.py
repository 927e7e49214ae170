"""Score the held-out items with the candidate and the champion, and find what the candidate is worth.

In: a trained candidate, the preferences and the champion's version. Out: the completed ``scoring.json`` (public scale,
temperature, threshold), the public parity fixture, all scores, the reference that drift is measured against, and the
evaluation evidence.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from rewardloop.config import EvaluationSettings, ThresholdSettings
from rewardloop.evaluation.against_champion import ChampionScores
from rewardloop.evaluation.evaluate import Evaluation, PerturbedAnswers, evaluate
from rewardloop.evaluation.metrics import counting
from rewardloop.evaluation.reference import REFERENCE_FILE, reference_sample
from rewardloop.evaluation.robustness import KINDS, perturbed, sample_for_robustness
from rewardloop.evidence import PreferenceEvidence
from rewardloop.feedback.golden import documents_in_use, use_golden
from rewardloop.feedback.known_batches import known_batches
from rewardloop.feedback.store import FeedbackStore
from rewardloop.modeling.parity import check_parity
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import Floats, RewardScorer
from rewardloop.steps.step_run import step_run
from rewardloop.tracking.registry import load_scorer, version_tags

_HELD_OUT = ("validation", "calibration", "test", "golden")


def evaluate_reward_model(
    *,
    reward_model: Path,
    preferences: Path,
    store: str,
    settings: str,
    champion: str,
    tracking_uri: str,
    code_version: str,
    evaluation: Path,
) -> None:
    """Evaluate one candidate.

    Args:
        reward_model: output of ``train_reward_model``.
        preferences: output of ``build_preferences``.
        store: URL of the feedback store, for the anchors.
        settings: JSON with the sections ``evaluation`` and ``threshold``.
        champion: ``models:/NAME/VERSION`` to compare with, or empty.
        tracking_uri: MLflow's URI, for loading the champion.
        code_version: fingerprint of the code; part of the pipeline's cache key.
        evaluation: output folder.
    """
    del code_version  # known to the cache, not to the work
    sections = json.loads(settings)
    wanted = EvaluationSettings.model_validate(sections["evaluation"])
    with step_run("evaluate_reward_model", inputs=[reward_model, preferences], output=evaluation) as run:
        scorer = RewardScorer.load(reward_model)
        check_parity(scorer, reward_model / "parity.json", where=f"the saved model {reward_model}")
        items = pl.read_parquet(preferences / "items.parquet")
        pairs = pl.read_parquet(preferences / "pairs.parquet")
        about = PreferenceEvidence.model_validate_json((preferences / "evidence" / "preferences.json").read_bytes())
        opened = FeedbackStore.open(store)
        anchors = opened.anchors()
        raw = _score(scorer, items, _HELD_OUT, wanted.tokens_per_batch, "scoring held-out items")
        champion_scores, reference = None, None
        if champion:
            model = load_scorer(champion, tracking_uri)
            reference = np.asarray(model.scoring["reference_anchors"], dtype=float)
            public = model.public(
                _score(model, items, ("test", "golden"), wanted.tokens_per_batch, "scoring as champion")
            )
            present = _compared(items, pairs, wanted)
            champion_scores = ChampionScores(
                champion.rpartition("/")[2],
                public,
                model.threshold,
                batches=known_batches(version_tags(champion, tracking_uri), store),
                golden_documents=frozenset(documents_in_use(opened.storage, present)),
                golden_use=use_golden(opened.storage, weights_digest(reward_model / "model"), present),
            )
        result = evaluate(
            items,
            pairs,
            raw=raw,
            anchors_raw=_score_anchors(scorer, anchors, items, raw, wanted.tokens_per_batch),
            reference_anchors=reference,
            champion=champion_scores,
            perturbations=_perturb(scorer, items, raw, wanted),
            evaluation=wanted,
            threshold=ThresholdSettings.model_validate(sections["threshold"]),
            base_scoring=scorer.scoring,
            acceptability=about.acceptability,
            one_labeler=about.one_labeler,
        )
        run.write("evaluation", result.evidence)
        _write(evaluation, reward_model, scorer, result)
        reference_sample(items, result.public, result.scoring, wanted).write_parquet(evaluation / REFERENCE_FILE)
        accuracy, threshold = result.evidence.accuracy, result.evidence.threshold
        run.log({"accuracy": accuracy.value, "ece": result.evidence.ece, "brier": result.evidence.brier})
        run.produced = f"accuracy {accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}], " + (
            f"threshold {threshold.threshold:.3f}" if threshold.certified else "no threshold certified"
        )


def _score(scorer: RewardScorer, items: pl.DataFrame, splits: tuple[str, ...], tokens: int, what: str) -> Floats:
    """Raw scores for the items of ``splits``, NaN for all others; shape (items,)."""
    chosen = items.filter(pl.col("split").is_in(splits))
    with tqdm(total=len(chosen), desc=what, unit="answer", mininterval=1) as bar:
        scores = scorer.raw_scores(
            chosen["prompt"].to_list(), chosen["response"].to_list(), tokens_per_batch=tokens, progress=bar.update
        )
    everything = np.full(len(items), np.nan)
    everything[chosen["item"].to_numpy()] = scores
    return everything


def _compared(items: pl.DataFrame, pairs: pl.DataFrame, settings: EvaluationSettings) -> set[str]:
    """Golden documents that have a pair which counts."""
    golden = counting(pairs, "golden", settings)
    return set(items["document"].gather(pl.concat([golden["a"], golden["b"]]).unique().sort()))


def _perturb(scorer: RewardScorer, items: pl.DataFrame, raw: Floats, settings: EvaluationSettings) -> PerturbedAnswers:
    """Raw scores of some test answers after every kind of perturbation."""
    known = items.filter(~pl.Series(np.isnan(raw)))
    places = sample_for_robustness(known, seed=settings.seed, at_most=settings.robustness_items)
    chosen = items[places]
    prompts, responses = chosen["prompt"].to_list(), chosen["response"].to_list()
    changed = {kind: perturbed(responses, kind, settings.seed) for kind in KINDS}
    with tqdm(total=len(changed) * len(places), desc="scoring perturbed answers", unit="answer", mininterval=1) as bar:
        scores = {
            kind: scorer.raw_scores(prompts, texts, tokens_per_batch=settings.tokens_per_batch, progress=bar.update)
            for kind, texts in changed.items()
        }
    return PerturbedAnswers(places, changed, scores)


def _score_anchors(
    scorer: RewardScorer, anchors: pl.DataFrame, items: pl.DataFrame, raw: Floats, tokens: int
) -> Floats:
    """Raw scores of the anchors; those among the golden items, usually all, have theirs already."""
    text = pl.struct("prompt", "response").struct.json_encode().alias("text")
    golden = items.select(text, pl.Series("raw", raw)).filter(items["split"] == "golden").unique("text")
    wanted = anchors.with_columns(text).join(golden, on="text", how="left", maintain_order="left")
    missing = wanted.filter(pl.col("raw").is_null())
    scores = wanted["raw"].to_numpy(writable=True)
    scores[wanted["raw"].is_null().to_numpy()] = scorer.raw_scores(
        missing["prompt"].to_list(), missing["response"].to_list(), tokens_per_batch=tokens
    )
    return scores


def _write(folder: Path, reward_model: Path, scorer: RewardScorer, result: Evaluation) -> None:
    final = RewardScorer(scorer.model, scorer.tokenizer, result.scoring)
    fixture: dict[str, Any] = json.loads((reward_model / "parity.json").read_text(encoding="utf-8"))
    public = final.public(np.asarray(fixture.pop("raw_scores"), dtype=float))
    fixture["scores"] = public.tolist()
    fixture["allowed"] = None if final.threshold is None else final.allowed(public).tolist()
    contents = {
        "scoring.json": result.scoring,
        "parity.json": fixture,
        "candidate.json": {"digest": weights_digest(reward_model / "model")},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    pl.DataFrame({"item": np.arange(len(result.public)), "score": result.public}).write_parquet(
        folder / "scores.parquet"
    )
