"""What MLflow shows of a run: one parent per pipeline run, one child per step.

In: the run's record, then metrics and curves per step. Out: runs in the organization's experiment. Everything goes
through ``MlflowClient``: the fluent functions would resume, and then end, a run that another process works in.
"""

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import (
    MAX_DATASET_DIGEST_SIZE,
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
)

from rewardloop.errors import BadInputError
from rewardloop.evidence import RunRecord
from rewardloop.tracking.outage import again_if_raced

RUN_ID = "REWARDLOOP_MLFLOW_RUN_ID"
TRACKING_URI = "REWARDLOOP_TRACKING_URI"
_GIVEN_URI = "MLFLOW_TRACKING_URI"
_GIVEN_RUN = "MLFLOW_RUN_ID"
"""Set where KFP's own MLflow plugin made the parent run; that run is the plugin's to end."""

_RUN_TAG = "rewardloop.run_id"

Status = Literal["FINISHED", "FAILED"]


def start_parent_run(tracking_uri: str, record: RunRecord, *, home: Path, again: str | None) -> str:
    """Start the pipeline run's MLflow run and log settings, their origins and the corpus; returns its id.

    A run that was cut short has one already, which goes on: it is found by its tags, which it is created with.

    Args:
        tracking_uri: what ``connect`` returned.
        record: the run; its organization names the experiment.
        home: artifacts of local stores go to ``home/mlartifacts``.
        again: why a corpus is trained once more, if it is.

    Raises:
        BadInputError: the run in ``MLFLOW_RUN_ID`` is unknown, or the experiment was deleted.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    tags = {
        _RUN_TAG: record.run_id,
        "rewardloop.corpus_digest": record.corpus_digest,
        "rewardloop.config_digest": record.config_digest,
        "rewardloop.trigger": record.trigger_reason[:MAX_PARAM_VAL_LENGTH],
        "rewardloop.attempt": str(record.attempt),
    } | ({"rewardloop.again": again} if again else {})
    given = os.environ.get(_GIVEN_RUN)
    if given:
        run = _existing_run(client, given, tracking_uri)
    else:
        experiment = ensure_experiment(client, record.organization, home)
        run = _cut_short(client, experiment, record.run_id) or client.create_run(
            experiment, run_name=record.run_id, tags=tags
        )
    run_id = run.info.run_id
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    # MLflow refuses another value for a parameter; places may have changed since the first attempt.
    known = run.data.params
    params = [Param(_key(name), value[:MAX_PARAM_VAL_LENGTH]) for name, value in record.settings.items()]
    params = [param for param in params if param.key not in known]
    for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + MAX_PARAMS_TAGS_PER_BATCH])
    client.log_dict(run_id, record.settings, "settings.json")
    client.log_dict(run_id, record.origins, "origins.json")
    digest, source = record.corpus_digest[:MAX_DATASET_DIGEST_SIZE], json.dumps({"corpus": record.corpus_digest})
    corpus = Dataset(name=f"{record.organization} feedback", digest=digest, source_type="rewardloop", source=source)
    again_if_raced(lambda: client.log_inputs(run_id, [DatasetInput(corpus)]))
    return str(run_id)


def _cut_short(client: MlflowClient, experiment: str, run_id: str) -> Run | None:
    """The MLflow run of an earlier attempt, at work again; steps of it that were killed are ended."""
    found = client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{run_id}'", max_results=1)
    if not found:
        return None
    run = found[0]
    running = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}' and attributes.status = 'RUNNING'"
    for step in client.search_runs([experiment], running):
        client.set_terminated(step.info.run_id, status="KILLED")
    client.update_run(run.info.run_id, status="RUNNING")
    return run


def ensure_experiment(client: MlflowClient, organization: str, home: Path) -> str:
    """Id of the organization's experiment, created when absent.

    Artifacts of a store without a server lie at an absolute place: MLflow's default is the current folder of whichever
    process comes first.

    Raises:
        BadInputError: an experiment of that name was deleted.
    """
    experiment = client.get_experiment_by_name(organization)
    if experiment is None:
        remote = client.tracking_uri.startswith(("http://", "https://"))
        place = None if remote else (home.resolve() / "mlartifacts" / organization).as_uri()
        try:
            return str(client.create_experiment(organization, artifact_location=place))
        except MlflowException as error:
            experiment = client.get_experiment_by_name(organization)  # another process was faster
            if experiment is None:
                raise error
    if experiment.lifecycle_stage != "active":
        raise BadInputError(
            f"organization: the MLflow experiment {organization!r} in {client.tracking_uri} was deleted; restore it "
            f"(mlflow experiments restore --experiment-id {experiment.experiment_id}) or choose another organization"
        )
    return str(experiment.experiment_id)


def start_step(client: MlflowClient, parent_run_id: str, step: str) -> Run:
    """Start a run named after the step below the pipeline's run, which stays as it is."""
    parent = _existing_run(client, parent_run_id, client.tracking_uri)
    return client.create_run(parent.info.experiment_id, run_name=step, tags={MLFLOW_PARENT_RUN_ID: parent_run_id})


def log_step(
    tracking_uri: str,
    parent_run_id: str,
    step: str,
    *,
    metrics: Mapping[str, float],
    curves: Mapping[str, Sequence[tuple[int, float]]] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
) -> str:
    """Log what a step measured as a child run named after it; returns the child's id.

    Args:
        tracking_uri: what ``connect`` returned.
        parent_run_id: the pipeline's run.
        step: the step's name.
        metrics: name -> value.
        curves: name -> (optimizer step, value) points.
        tables: name -> rows, shown by MLflow as a table.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    run_id = start_step(client, parent_run_id, step).info.run_id
    now = int(time.time() * 1000)
    points = [Metric(_key(name), float(value), now, 0) for name, value in metrics.items()]
    for name, curve in (curves or {}).items():
        points += [Metric(_key(name), float(value), now, at) for at, value in curve]
    for start in range(0, len(points), MAX_METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=points[start : start + MAX_METRICS_PER_BATCH])
    for name, rows in (tables or {}).items():
        columns = {column: [row[column] for row in rows] for column in (rows[0] if rows else {})}
        client.log_table(run_id, columns, f"{name}.json")
    client.set_terminated(run_id, status="FINISHED")
    return str(run_id)


def end_run(tracking_uri: str, run_id: str, *, status: Status) -> None:
    """End a run that ``start_parent_run`` started; a run given from outside is left to its owner."""
    if os.environ.get(_GIVEN_RUN) != run_id:
        MlflowClient(tracking_uri=tracking_uri).set_terminated(run_id, status=status)


def current_run() -> tuple[str, str] | None:
    """(tracking URI, run id) of the pipeline run this process works for, or None outside one.

    The command line names them for the steps that it starts; in a pod KFP's plugin does, in MLflow's own variables.
    """
    for uri_name, run_name in ((TRACKING_URI, RUN_ID), (_GIVEN_URI, _GIVEN_RUN)):
        uri, run_id = os.environ.get(uri_name), os.environ.get(run_name)
        if uri and run_id:
            return uri, run_id
    return None


def _existing_run(client: MlflowClient, run_id: str, tracking_uri: str) -> Run:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise BadInputError(
            f"{tracking_uri}: has no run {run_id!r}; correct {_GIVEN_RUN} or {RUN_ID}, or unset them"
        ) from error


def _key(name: str) -> str:
    return re.sub(r"[^\w\-. /:]", "_", name, flags=re.ASCII)[:250]
