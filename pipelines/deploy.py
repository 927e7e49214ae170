"""Bring the pipelines and the recurring run of a configuration to a Kubeflow Pipelines endpoint.

In: a configuration, and the graphs of this checkout. Out: a version of each pipeline, named by the digest of its
content, and one recurring run of ``trigger``. What is there already stays as it is; where something differs, the new
recurring run is created before the old one is deleted, so that there is never none. For that moment there are two: the
claims of the store let only one of them submit a corpus.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.compile import compile_to
from rewardloop.cli.kubeflow import Kubeflow, check_reachable, with_image
from rewardloop.cli.parameters import pipeline_name
from rewardloop.cli.submit import served_tracking_uri
from rewardloop.config import LoadedSettings, Settings
from rewardloop.operation.schedule import check_cron


@dataclass(frozen=True)
class Deployed:
    """What is on the endpoint now."""

    versions: dict[str, str]
    """Pipeline -> version."""
    uploaded: list[str]
    """Pipelines whose version is new."""
    recurring_run: str
    created: bool
    """Whether the recurring run is new."""
    deleted: list[str]
    """Recurring runs that it took the place of."""


def deploy(loaded: LoadedSettings) -> Deployed:
    """Upload what is missing and create or replace the recurring run; a second call changes nothing.

    Raises:
        BadInputError: the schedule is none, the configuration names places that pods do not reach, or the endpoint
            does not answer or refuses the credentials.
    """
    settings = loaded.settings
    check_cron(settings.schedule.cron)
    _check_places(settings)
    kubeflow = Kubeflow.connect(timeout_seconds=settings.tracking.timeout_seconds)
    experiment = kubeflow.experiment(settings.schedule.experiment)
    versions: dict[str, str] = {}
    uploaded: list[str] = []
    places: dict[str, tuple[str, str]] = {}
    for name, text in _packages(settings, [pipeline_name(settings), "trigger"]).items():
        versions[name] = hashlib.sha256(text.encode()).hexdigest()[:12]
        *place, new = kubeflow.version(f"rewardloop-{name}", versions[name], text, description=_commit())
        places[name] = (str(place[0]), str(place[1]))
        uploaded += [name] if new else []
    wanted = _recurring_run(settings, experiment, places["trigger"])
    there = kubeflow.recurring_runs(wanted["job_name"])
    same = [one for one in there if _as_wanted(one, wanted)]
    recurring_run = same[0].recurring_run_id if same else kubeflow.create_recurring_run(**wanted)
    others = [one.recurring_run_id for one in there if one.recurring_run_id != recurring_run]
    for other in others:
        kubeflow.delete_recurring_run(other)
    return Deployed(versions, uploaded, recurring_run, not same, others)


def _check_places(settings: Settings) -> None:
    served_tracking_uri(settings)
    check_reachable("store.url", settings.store.url)
    if settings.align is None:
        return
    for name, file in (
        ("align.prompts", settings.align.prompts),
        ("sft.demonstrations", settings.sft.demonstrations),
        ("policy_evaluation.toxicity_prompts", settings.policy_evaluation.toxicity_prompts),
        ("policy_evaluation.reference_texts", settings.policy_evaluation.reference_texts),
    ):
        if file:
            check_reachable(name, file)


def _packages(settings: Settings, names: list[str]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        compile_to(Path(folder))
        texts = {name: (Path(folder) / f"{name}.yaml").read_text(encoding="utf-8") for name in names}
    image = settings.schedule.image
    return {name: with_image(text, image) if image else text for name, text in texts.items()}


def _recurring_run(settings: Settings, experiment: str, version: tuple[str, str]) -> dict[str, Any]:
    """Arguments of KFP's client."""
    pipeline_id, version_id = version
    return {
        "experiment_id": experiment,
        "job_name": f"rewardloop-{settings.organization}",
        "description": "Submits a retraining where one is due; made by python -m pipelines deploy",
        "cron_expression": settings.schedule.cron,
        "max_concurrency": 1,
        "no_catchup": True,
        "params": {"settings": _settings_of(settings)},
        "pipeline_id": pipeline_id,
        "version_id": version_id,
        "enabled": settings.schedule.enabled,
    }


def _settings_of(settings: Settings) -> str:
    """The whole configuration as JSON, with MLflow's URI, which a pod does not find in this environment."""
    tree = settings.model_dump(mode="json")
    tree["tracking"]["uri"] = served_tracking_uri(settings)
    return json.dumps(tree, sort_keys=True)


def _as_wanted(found: Any, wanted: dict[str, Any]) -> bool:
    reference, schedule = found.pipeline_version_reference, found.trigger.cron_schedule if found.trigger else None
    return bool(
        reference
        and (reference.pipeline_id, reference.pipeline_version_id) == (wanted["pipeline_id"], wanted["version_id"])
        and schedule
        and schedule.cron == wanted["cron_expression"]
        and (found.runtime_config.parameters or {}) == wanted["params"]
        and int(found.max_concurrency or 0) == wanted["max_concurrency"]
        and bool(found.no_catchup) == wanted["no_catchup"]
        and (str(found.mode) == "ENABLE") == wanted["enabled"]
        and found.experiment_id == wanted["experiment_id"]
    )


def _commit() -> str:
    """The checkout's commit, in words, for people."""
    git = shutil.which("git")
    if git is None:
        return "rewardloop"
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return f"rewardloop, commit {asked.stdout.strip() or 'unknown'}"
