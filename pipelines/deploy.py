"""Bring the pipelines and the recurring run of a configuration to a Kubeflow Pipelines endpoint, and take them away.

In: a configuration, and the graphs of this checkout. Out: a version of each pipeline, named by commit and content, and
one recurring run of ``trigger``. What is there already stays as it is; where something differs, the new recurring run
is created before the old one is deleted, so that there is never none. For that moment there are two: the claims of the
store let only one of them submit a corpus.
"""

import json
from dataclasses import dataclass
from typing import Any

from pipelines.versions import package
from rewardloop.cli.cluster_runs import served_tracking_uri
from rewardloop.cli.graphs import deployed_name, deployed_version
from rewardloop.cli.kubeflow import Kubeflow, Version, check_reachable
from rewardloop.cli.parameters import pipeline_name
from rewardloop.config import LoadedSettings, Settings
from rewardloop.errors import BadInputError
from rewardloop.operation.schedule import check_cron

_LABELER_KEY = "REWARDLOOP_LABELER_KEY"


@dataclass(frozen=True)
class Scheduled:
    """The recurring run that is on the endpoint now."""

    recurring_run: str
    created: bool
    """Whether it is new."""
    deleted: list[str]
    """Recurring runs that it took the place of."""


@dataclass(frozen=True)
class Deployed:
    """What is on the endpoint now."""

    versions: dict[str, str]
    """Pipeline -> version."""
    uploaded: list[str]
    """Pipelines whose version is new."""
    schedule: Scheduled


@dataclass(frozen=True)
class Undeployed:
    """What was taken away."""

    recurring_runs: list[str]
    versions: dict[str, list[str]]
    """Pipeline -> versions that were deleted with it."""


def deploy(loaded: LoadedSettings) -> Deployed:
    """Upload what is missing and create or replace the recurring run; a second call changes nothing.

    Raises:
        BadInputError: the schedule is none, the configuration names places that pods do not reach, or the endpoint
            does not answer or refuses the credentials.
    """
    settings = loaded.settings
    check_settings(settings)
    packages = [package(name, settings.placement) for name in _pipelines(settings)]
    kubeflow = _connect(settings)
    versions: dict[str, str] = {}
    uploaded: list[str] = []
    places: dict[str, Version] = {}
    for one in packages:
        versions[one.pipeline] = one.version
        places[one.pipeline], new = kubeflow.upload(
            deployed_name(one.pipeline), one.version, one.text, description=one.description
        )
        uploaded += [one.pipeline] if new else []
    return Deployed(versions, uploaded, _set_schedule(kubeflow, settings, places["trigger"]))


def schedule(loaded: LoadedSettings) -> Scheduled:
    """Create or replace the recurring run alone, of the versions that are there.

    Raises:
        BadInputError: as ``deploy``, or versions of these graphs for this placement are missing.
    """
    settings = loaded.settings
    check_settings(settings)
    kubeflow = _connect(settings)
    places = {name: deployed_version(kubeflow, name, settings.placement) for name in _pipelines(settings)}
    return _set_schedule(kubeflow, settings, places["trigger"])


def undeploy(loaded: LoadedSettings, *, pipelines: bool = False) -> Undeployed:
    """Delete the recurring run, and with ``pipelines`` the pipelines with all their versions; runs stay.

    Raises:
        BadInputError: a recurring run of somebody else is of one of the pipelines; nothing was deleted.
    """
    kubeflow = _connect(loaded.settings)
    name = _recurring_run_name(loaded.settings)
    ours = [one.recurring_run_id for one in kubeflow.recurring_runs(name)]
    found = _found_pipelines(kubeflow) if pipelines else {}
    others = [
        one.display_name
        for one in (kubeflow.recurring_runs() if found else [])
        if one.display_name != name
        and one.pipeline_version_reference
        and one.pipeline_version_reference.pipeline_id in found.values()
    ]
    if others:
        raise BadInputError(
            f"undeploy --pipelines: {', '.join(sorted(others))} would be left without its pipeline; undeploy what it "
            "belongs to first, or leave --pipelines out"
        )
    for one in ours:
        kubeflow.delete_recurring_run(one)
    return Undeployed(ours, {pipeline: kubeflow.delete_pipeline(found[pipeline]) for pipeline in found})


def check_settings(settings: Settings) -> None:
    """Raise BadInputError for a schedule that is none, and for places that pods would not reach."""
    check_cron(settings.schedule.cron)
    served_tracking_uri(settings)
    check_reachable("store.url", settings.store.url)
    _check_inbox(settings)
    if settings.align is None:
        return
    for name, file in (
        ("align.prompts", settings.align.prompts),
        ("sft.demonstrations", settings.sft.demonstrations),
        ("policy_evaluation.toxicity_prompts", settings.policy_evaluation.toxicity_prompts),
        ("policy_evaluation.reference_texts", settings.policy_evaluation.reference_texts),
    ):
        if file and "://" in file:
            raise BadInputError(
                f"{name}: {file!r} is a URL; the recurring run reads texts from a file: put it on a volume that "
                "submit_when_due mounts (placement.home), and name its absolute path there"
            )
        if file:
            check_reachable(name, file)


def _check_inbox(settings: Settings) -> None:
    """What the recurring run takes in must get the pseudonyms that everything before it has."""
    if settings.trigger.inbox is None:
        return
    check_reachable("trigger.inbox", settings.trigger.inbox)
    secrets = settings.placement.of("submit_when_due").secrets or {}
    if not any(_LABELER_KEY in variables for variables in secrets.values()):
        raise BadInputError(
            "trigger.inbox: the recurring run would take it in a pod that has no key of the labelers' pseudonyms; give "
            f"it as a secret: placement.steps.submit_when_due.secrets: {{NAME: {{{_LABELER_KEY}: KEY}}}}"
        )


def settings_text(settings: Settings) -> str:
    """The whole configuration as JSON, with MLflow's URI, which a pod does not find in this environment."""
    tree = settings.model_dump(mode="json")
    tree["tracking"]["uri"] = served_tracking_uri(settings)
    return json.dumps(tree, sort_keys=True)


def _connect(settings: Settings) -> Kubeflow:
    return Kubeflow.connect(timeout_seconds=settings.tracking.timeout_seconds)


def _pipelines(settings: Settings) -> list[str]:
    return [pipeline_name(settings), "trigger"]


def _found_pipelines(kubeflow: Kubeflow) -> dict[str, str]:
    names = [deployed_name(name) for name in ("retrain", "retrain-and-align", "trigger")]
    return {name: found for name in names if (found := kubeflow.pipeline(name))}


def _recurring_run_name(settings: Settings) -> str:
    return f"rewardloop-{settings.organization}"


def _set_schedule(kubeflow: Kubeflow, settings: Settings, trigger: Version) -> Scheduled:
    wanted = _recurring_run(settings, kubeflow.experiment(settings.schedule.experiment), trigger)
    there = kubeflow.recurring_runs(wanted["job_name"])
    same = [one for one in there if _as_wanted(one, wanted)]
    recurring_run = same[0].recurring_run_id if same else kubeflow.create_recurring_run(**wanted)
    others = [one.recurring_run_id for one in there if one.recurring_run_id != recurring_run]
    for other in others:
        kubeflow.delete_recurring_run(other)
    return Scheduled(recurring_run, not same, others)


def _recurring_run(settings: Settings, experiment: str, version: Version) -> dict[str, Any]:
    """Arguments of KFP's client."""
    return {
        "experiment_id": experiment,
        "job_name": _recurring_run_name(settings),
        "description": "Submits a retraining where one is due; made by python -m pipelines deploy",
        "cron_expression": settings.schedule.cron,
        "max_concurrency": 1,
        "no_catchup": True,
        "params": {"settings": settings_text(settings)},
        "pipeline_id": version.pipeline_id,
        "version_id": version.version_id,
        "enabled": settings.schedule.enabled,
        "service_account": settings.placement.service_account,
    }


def _as_wanted(found: Any, wanted: dict[str, Any]) -> bool:
    reference, cron = found.pipeline_version_reference, found.trigger and found.trigger.cron_schedule
    return bool(
        reference
        and (reference.pipeline_id, reference.pipeline_version_id) == (wanted["pipeline_id"], wanted["version_id"])
        and cron
        and cron.cron == wanted["cron_expression"]
        and (found.runtime_config.parameters or {}) == wanted["params"]
        and int(found.max_concurrency or 0) == wanted["max_concurrency"]
        and bool(found.no_catchup) == wanted["no_catchup"]
        and (str(found.mode) == "ENABLE") == wanted["enabled"]
        and found.experiment_id == wanted["experiment_id"]
        # Where none is asked for, the server fills in its default.
        and wanted["service_account"] in (None, found.service_account)
    )
