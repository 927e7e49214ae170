"""What a run is told: the parameters of the compiled pipelines, and the digests that say when two runs are the same.

In: settings, the corpus, the champion. Out: texts; the same on a laptop and on a cluster.

Settings travel as JSON, one text per group of sections that steps read together. KFP's cache knows a step by the values
of its parameters, so a step is told nothing that it does not read: other settings of PPO leave the data steps, the
reward model and its evaluation in the cache. What differs from run to run (``trigger_reason``) goes to tasks that are
never cached.
"""

import hashlib
import json
from pathlib import Path
from typing import Literal

from rewardloop.config import LoadedSettings, Settings


def pipeline_name(settings: Settings) -> Literal["retrain", "retrain-and-align"]:
    """Which compiled pipeline a run of these settings is."""
    return "retrain-and-align" if settings.align else "retrain"


def pipeline_parameters(
    settings: Settings,
    *,
    store: str,
    corpus_digest: str,
    config_digest: str,
    champion: str | None,
    tracking_uri: str,
    text_sets: dict[str, str],
    trigger_reason: str,
    code: str | None = None,
) -> dict[str, str]:
    """Every parameter of ``pipeline_name(settings)``.

    Args:
        settings: the checked settings.
        store: URL of the feedback store as the steps see it.
        corpus_digest: what to train on.
        config_digest: as ``config_digest`` gives it.
        champion: version to go on from and to compare with, or None.
        tracking_uri: MLflow as the steps see it.
        text_sets: as ``keep_text_sets`` gives them.
        trigger_reason: why the run is started, for people.
        code: what keeps two runs from sharing results; None: ``code_version()``.
    """
    parameters = {
        "store_uri": store,
        "corpus_digest": corpus_digest,
        "config_digest": config_digest,
        "trigger_reason": trigger_reason,
        "code_version": code or code_version(),
        "champion": f"models:/{settings.model_name}/{champion}" if champion else "",
        "tracking_uri": tracking_uri,
        "prerequisite_settings": _prerequisite_sections(settings),
        "data_settings": settings.section("validation", "preferences", "splits", "evaluation"),
        "training_settings": settings.section("model", "training", "distributed", *_judge_sections(settings)),
        "evaluation_settings": settings.section("evaluation", "threshold"),
        "promotion_settings": settings.section(
            "organization", "gate", "threshold", "align", "promotion", "notifications"
        ),
    }
    if settings.align is None:
        return parameters
    return parameters | {
        "text_sets": json.dumps(text_sets, sort_keys=True),
        "sft_settings": settings.section("model", "sft", "align"),
        "alignment_settings": settings.section("align", "distributed"),
        "policy_settings": settings.section("align", "policy_evaluation", "evaluation", "model", "training"),
    }


def reason_of(reason: str, again: str | None) -> str:
    """Why a run is started, in one line: who wanted it, and why once more where it is a repetition."""
    return f"{reason}; again: {again}" if again else reason


def config_digest(loaded: LoadedSettings, text_sets: dict[str, str]) -> str:
    """Digest of everything that can change a model: the settings, and the texts that they name."""
    if not text_sets:
        return loaded.digest
    return hashlib.sha256(json.dumps([loaded.digest, text_sets], sort_keys=True).encode()).hexdigest()


def code_version() -> str:
    """Fingerprint of the library's code: KFP's cache does not see it, so the steps are told."""
    from importlib.resources import files

    package = Path(str(files("rewardloop")))
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:16]


def _prerequisite_sections(settings: Settings) -> str:
    """Without MLflow's URI, which may hold a password, and which the step is told anyway."""
    sections = settings.model_dump(mode="json", include={"organization": True, "tracking": {"timeout_seconds"}})
    return json.dumps(sections, sort_keys=True)


def _judge_sections(settings: Settings) -> list[str]:
    """What training reads besides: a judge that learns from half of the feedback leaves the candidate the other."""
    return ["policy_evaluation"] if settings.align and settings.policy_evaluation.judge == "base" else []
