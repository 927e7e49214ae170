"""A directory of files becomes a version in MLflow's registry: once, whole, and loaded back before it counts.

In: weights, ``scoring.json``, ``parity.json``, ``scoring/`` and their manifest. Out: a version of the organization's
model with the alias ``candidate``. A version that a crash or an outage left half-made lacks the tag ``blessed``;
whoever registers the same files next completes it.
"""

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from rewardloop.tracking.flavors import REWARD_MODEL, Flavor
from rewardloop.tracking.outage import again_if_raced, first_line, insist, is_outage, outages_in_words
from rewardloop.tracking.registry import find, parity_of, versions
from rewardloop.tracking.runs import ensure_experiment, start_step
from rewardloop.tracking.tags import AGAINST, BLESSED


@dataclass(frozen=True)
class Registered:
    """A version in the registry; ``parity_difference``: largest difference of a fixture score after reloading."""

    version: str
    parity_difference: float


def register(
    directory: Path,
    *,
    name: str,
    same: Mapping[str, str],
    tags: Mapping[str, str],
    tracking_uri: str,
    parent_run_id: str | None,
    flavor: Flavor = REWARD_MODEL,
    verify: Callable[[str, str], float] | None = None,
) -> Registered:
    """Register ``directory`` as a version of ``name`` with the alias ``candidate``, and load it back.

    A version that carries all of ``same`` already is the one: it is completed where a crash or an outage left it
    half-made, and never made twice. While MLflow does not answer, every call is tried again for some time.

    Args:
        directory: weights, ``scoring.json``, ``parity.json``, ``scoring/`` and ``manifest.json``.
        name: the registered model.
        same: tags that name exactly these files of this run, ``manifest_digest`` among them.
        tags: further tags; ``blessed`` is set last, when the version has been found whole.
        tracking_uri: what ``connect`` returned.
        parent_run_id: the pipeline's MLflow run; None outside one.
        flavor: what is registered.
        verify: loads (model URI, tracking URI), returns the largest difference from its fixture; None: ``parity_of``.

    Raises:
        RewardloopError: the version scores differently once loaded from the registry (it was deleted again), or MLflow
            went away and did not come back.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    with outages_in_words(f"{name}: registering a version", tracking_uri):
        found = insist("looking for the version", lambda: find(name, same, tracking_uri))
        if found is None:
            found = _make_version(client, directory, name, {**same, **tags}, parent_run_id, flavor, same)
        return _complete(client, name, found, {**same, **tags}, verify or parity_of)


def _make_version(
    client: MlflowClient,
    directory: Path,
    name: str,
    tags: Mapping[str, str],
    parent_run_id: str | None,
    flavor: Flavor,
    same: Mapping[str, str],
) -> str:
    """Upload the files into a run of their own, and name them as a version that is not blessed yet."""

    def start() -> Run:
        if parent_run_id:
            return start_step(client, parent_run_id, "register_models")
        home = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop"))
        experiment = ensure_experiment(client, name.rpartition("-")[0], home)
        return client.create_run(experiment, run_name="register_models")

    def create() -> str:
        # An answer that was lost on its way must not make a second version.
        found = find(name, same, client.tracking_uri)
        if found is None:
            _ensure_model(client, name)
            made = client.create_model_version(name, source, run_id=run.info.run_id, tags=first)
            found = str(made.version)
        return found

    first = {key: value for key, value in tags.items() if key != BLESSED}
    run = insist("starting the registration's run", start)
    source = f"{run.info.artifact_uri}/{flavor.folder}"
    status = "FAILED"
    try:
        insist("uploading the files", lambda: _log_model(client, run.info.run_id, directory, flavor))
        version = insist("creating the version", create)
        status = "FINISHED"
    finally:
        _end_run(client, run.info.run_id, status)
    return version


def _complete(
    client: MlflowClient, name: str, version: str, tags: Mapping[str, str], verify: Callable[[str, str], float]
) -> Registered:
    """Load the version back; a new one that is whole becomes the candidate, one that is not is deleted."""
    whole = insist("reading the version", lambda: client.get_model_version(name, version).tags.get(BLESSED))
    try:
        difference = insist(
            "loading the version back", lambda: verify(f"models:/{name}/{version}", client.tracking_uri)
        )
    except Exception as error:
        if not is_outage(error) and not whole:
            insist("deleting the version that is not whole", lambda: _delete(client, name, version))
        raise
    against = tags.get(AGAINST)
    if whole and against:  # the same files may have been blessed again, against a later champion
        insist("noting the comparison", lambda: client.set_model_version_tag(name, version, AGAINST, against))
    if not whole:
        insist("naming the candidate", lambda: name_candidate(client, name, version))
        if BLESSED in tags:
            insist(
                "blessing the version",
                lambda: client.set_model_version_tag(name, version, BLESSED, tags[BLESSED]),
            )
    return Registered(version, difference)


def name_candidate(client: MlflowClient, name: str, version: str) -> None:
    """Give the version the alias ``candidate``, also where several do so at once: the last one has it."""
    again_if_raced(lambda: client.set_registered_model_alias(name, "candidate", version))


def _delete(client: MlflowClient, name: str, version: str) -> None:
    if any(str(one.version) == version for one in versions(client, name)):
        client.delete_model_version(name, version)
    if client.search_registered_models(f"name = '{name}'", max_results=1) and not versions(client, name):
        client.delete_registered_model(name)


def _ensure_model(client: MlflowClient, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'", max_results=1):
        try:
            client.create_registered_model(name)
        except MlflowException:
            client.get_registered_model(name)  # another process was faster


def _end_run(client: MlflowClient, run_id: str, status: str) -> None:
    """The version stands whatever becomes of the run's status."""
    try:
        insist("ending the registration's run", lambda: client.set_terminated(run_id, status=status))
    except Exception as error:
        print(f"Warning: MLflow's run {run_id} could not be closed: {first_line(error)}", flush=True)


def _log_model(client: MlflowClient, run_id: str, directory: Path, flavor: Flavor) -> None:
    from mlflow.pyfunc import save_model

    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        # An example would only be checked with a warning; the fixture is checked with an error.
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        target = Path(temporary) / flavor.folder
        save_model(
            str(target),
            python_model=str(flavor.python_model),
            artifacts={flavor.folder: str(directory)},
            signature=flavor.signature,
            pip_requirements=flavor.pip_requirements,
        )
        client.log_artifacts(run_id, str(target), flavor.folder)
