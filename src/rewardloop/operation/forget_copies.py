"""Who was trained on what is forgotten, and where it is left.

In: the batches that held it, the registry, the tracking server. Out: versions of models, and every remaining copy in
words: what rewardloop keeps elsewhere, and what people made of it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mlflow import MlflowClient

from rewardloop.config import Settings
from rewardloop.feedback.forgotten import Replaced
from rewardloop.feedback.store import BatchManifest, FeedbackStore
from rewardloop.operation.forget_home import corpora_with
from rewardloop.tracking.registry import versions
from rewardloop.tracking.tags import REWARD_MODEL

_CORPUS = "corpus_digest"
_RUNS = f"rewardloop.{_CORPUS}"


@dataclass(frozen=True)
class Model:
    """One registered version."""

    uri: str
    aliases: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        named = f" ({', '.join(self.aliases)})" if self.aliases else ""
        return f"{self.uri}{named}: {self.why}"


def trained_on_it(
    settings: Settings,
    store: FeedbackStore,
    tracking_uri: str,
    batches: frozenset[str],
    text_sets: Collection[str],
) -> list[Model]:
    """Versions whose corpus had one of ``batches``, and policies that were aligned to one of those.

    Where one of ``text_sets`` had it, every policy: no version says which it read.
    """
    corpora = corpora_with(store, batches)
    if not corpora and not text_sets:
        return []
    client = MlflowClient(tracking_uri=tracking_uri)
    found: list[Model] = []
    for name in (settings.model_name, settings.policy_name):
        known = versions(client, name)
        aliases = client.get_registered_model(name).aliases if known else {}
        affected = {model.uri for model in found}
        for one in sorted(known, key=lambda version: int(version.version)):
            uri, corpus = f"models:/{name}/{one.version}", one.tags.get(_CORPUS, "")
            own = tuple(sorted(alias for alias, version in aliases.items() if str(version) == str(one.version)))
            if corpus in corpora:
                found.append(Model(uri, own, f"trained on corpus {corpus[:12]}"))
            elif one.tags.get(REWARD_MODEL) in affected:
                found.append(Model(uri, own, f"aligned to {one.tags[REWARD_MODEL]}"))
            elif text_sets and name == settings.policy_name:
                found.append(Model(uri, own, f"may have been tuned, aligned or evaluated on {', '.join(text_sets)}"))
    return found


def where_it_is_left(
    settings: Settings,
    store: FeedbackStore,
    tracking_uri: str,
    batches: frozenset[str],
    models: Iterable[Model],
    replaced: Replaced,
) -> list[str]:
    """Copies that rewardloop does not remove, each with what to do about it."""
    left = [
        f"{model.uri}: {model.why}: its weights learn from what it is trained on, and parity.json and "
        "reference.parquet beside them hold answers; retrain, promote, and remove the version (rewardloop gc)"
        for model in models
    ]
    left += _runs(settings, store, tracking_uri, batches)
    if replaced.text_sets:
        left.append(
            f"MLflow runs of policies in the experiment {settings.organization}: tables and pages logged there may "
            f"quote what was forgotten of {', '.join(replaced.text_sets)}; remove their artifacts in MLflow"
        )
        left.append("the files that align.prompts, sft.demonstrations and policy_evaluation name: take it out of them")
    left += _files(store, replaced)
    if any(store.storage.list(folder) for folder in ("comparisons", "labeling")):
        left.append("tasks that were exported for labeling, and what the labeling tool keeps of them")
    if not store.storage.is_local:
        left.append(f"{store.storage.url}: earlier versions of the objects, where the bucket keeps them")
    return [*left, "backups of the store and of home, and homes of other machines: run the same command there"]


def _runs(settings: Settings, store: FeedbackStore, tracking_uri: str, batches: frozenset[str]) -> list[str]:
    corpora = corpora_with(store, batches)
    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.get_experiment_by_name(settings.organization) if corpora else None
    if experiment is None:
        return []
    found = []
    for corpus in sorted(corpora):
        for run in client.search_runs([experiment.experiment_id], f"tags.`{_RUNS}` = '{corpus}'"):
            steps = client.search_runs(
                [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", max_results=1000
            )
            found.append(
                f"MLflow run {run.info.run_id} ({run.info.run_name}) and its {len(steps)} steps: tables and pages "
                "logged there may quote it; remove their artifacts in MLflow"
            )
    return found


def _files(store: FeedbackStore, replaced: Replaced) -> list[str]:
    """The files that the rewritten batches came from, wherever they are kept."""
    found = set()
    for digest, one in replaced.batches.items():
        for name in (digest, one.by):
            try:
                manifest = BatchManifest.model_validate_json(store.storage.read(f"batches/{name}/manifest.json"))
            except FileNotFoundError:
                continue  # removed by an attempt before this one
            found |= {(source.name, source.sha256[:12]) for source in manifest.sources}
    return [
        f"{name} (SHA-256 {digest}...): the file that was ingested, wherever it is kept"
        for name, digest in sorted(found)
    ]
