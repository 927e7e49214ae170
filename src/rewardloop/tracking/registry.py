"""Registered reward models: put one in, find one, load one; nothing is loaded that is not what was registered.

In: a directory with weights, ``scoring.json``, ``parity.json``, ``scoring/`` and their manifest. Out: a version of
the organization's model in MLflow's registry, or a ``RewardScorer`` that scores with the version's own code.
"""

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.modeling.parity import check_parity
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.storage import Storage
from rewardloop.tracking.flavors import REWARD_MODEL, Flavor
from rewardloop.tracking.history import History
from rewardloop.tracking.manifest import verify_manifest
from rewardloop.tracking.runs import ensure_experiment, start_step

MANIFEST_TAG = "manifest_digest"


@dataclass(frozen=True)
class Registered:
    """A version in the registry; ``parity_difference``: largest difference of a fixture score after reloading."""

    version: str
    parity_difference: float


def resolve(model_name: str, version_or_alias: str, tracking_uri: str, storage: Storage) -> str:
    """``models:/NAME/VERSION`` for a version number or an alias.

    ``champion`` and ``previous`` are read from the history, and MLflow's aliases are repaired where they differ.

    Raises:
        BadInputError: there is no such version; what exists is listed.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    known = sorted(int(item.version) for item in _versions(client, model_name))
    exists = f"registered: {', '.join(map(str, known))}" if known else "nothing is registered yet: rewardloop run"
    if version_or_alias in ("champion", "previous"):
        history = History(storage, model_name)
        record = history.champion()
        version = record and (record.version if version_or_alias == "champion" else record.previous)
        if version is None:
            raise BadInputError(f"{model_name}: there is no {version_or_alias} yet; {exists}")
        history.project_aliases(client)
        return f"models:/{model_name}/{version}"
    try:
        if version_or_alias.isdecimal():
            found = client.get_model_version(model_name, version_or_alias)
        else:
            found = client.get_model_version_by_alias(model_name, version_or_alias)
    except MlflowException as error:
        raise BadInputError(
            f"{model_name}: no version or alias {version_or_alias!r} in {tracking_uri}; {exists}. "
            "Aliases are champion, previous and candidate"
        ) from error
    return f"models:/{model_name}/{found.version}"


def load_scorer(model_uri: str, tracking_uri: str, *, rounding: bool = False) -> RewardScorer:
    """Load ``models:/NAME/VERSION`` with the scoring code it was registered with.

    Args:
        model_uri: the version.
        tracking_uri: what ``connect`` returned.
        rounding: let it score in bfloat16 where that is faster and changes no decision.

    Raises:
        BadInputError: the registry has no such version, or it was not registered by rewardloop.
        RewardloopError: its files are not the ones that were registered, or it scores differently than when certified.
    """
    return _load(model_uri, tracking_uri, rounding=rounding)[0]


def parity_of(model_uri: str, tracking_uri: str) -> float:
    """Load a version as ``load_scorer`` does and return the largest difference of a fixture score."""
    return _load(model_uri, tracking_uri)[1]


def version_tags(model_uri: str, tracking_uri: str) -> Mapping[str, str]:
    """The tags of ``models:/NAME/VERSION``.

    Raises:
        BadInputError: the registry has no such version.
    """
    tags: Mapping[str, str] = _version(MlflowClient(tracking_uri=tracking_uri), model_uri).tags
    return tags


def find(name: str, tags: Mapping[str, str], tracking_uri: str) -> str | None:
    """The newest version that carries all of ``tags``, or None."""
    versions = _versions(MlflowClient(tracking_uri=tracking_uri), name)
    fitting = [int(item.version) for item in versions if tags.items() <= item.tags.items()]
    return str(max(fitting)) if fitting else None


def register(
    directory: Path,
    *,
    name: str,
    tags: Mapping[str, str],
    tracking_uri: str,
    parent_run_id: str | None,
    flavor: Flavor = REWARD_MODEL,
    verify: Callable[[str, str], float] | None = None,
) -> Registered:
    """Register ``directory`` as a new version of ``name`` with the alias ``candidate``, and load it back.

    Args:
        directory: weights, ``scoring.json``, ``parity.json``, ``scoring/`` and ``manifest.json``.
        name: the registered model.
        tags: tags of the version, ``manifest_digest`` among them.
        tracking_uri: what ``connect`` returned.
        parent_run_id: the pipeline's MLflow run; None outside one.
        flavor: what is registered.
        verify: loads (model URI, tracking URI), returns the largest difference from its fixture; None: ``parity_of``.

    Raises:
        RewardloopError: the version scores differently once loaded from the registry; it was deleted again.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    if parent_run_id:
        run = start_step(client, parent_run_id, "register_models")
    else:
        home = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop"))
        experiment = ensure_experiment(client, name.rpartition("-")[0], home)
        run = client.create_run(experiment, run_name="register_models")
    status = "FAILED"
    try:
        _log_model(client, run.info.run_id, directory, flavor)
        source = f"{run.info.artifact_uri}/{flavor.folder}"
        registered = _create_version(client, name, source, run.info.run_id, tags, verify or parity_of)
        status = "FINISHED"
    finally:
        client.set_terminated(run.info.run_id, status=status)
    return registered


def _create_version(
    client: MlflowClient,
    name: str,
    source: str,
    run_id: str,
    tags: Mapping[str, str],
    verify: Callable[[str, str], float],
) -> Registered:
    new = not client.search_registered_models(f"name = '{name}'", max_results=1)
    if new:
        try:
            client.create_registered_model(name)
        except MlflowException:
            client.get_registered_model(name)  # another process was faster
    version = None
    try:
        version = str(client.create_model_version(name, source, run_id=run_id, tags=dict(tags)).version)
        difference = verify(f"models:/{name}/{version}", client.tracking_uri)
    except BaseException:
        if version is not None:
            client.delete_model_version(name, version)
        if new and not _versions(client, name):
            client.delete_registered_model(name)
        raise
    client.set_registered_model_alias(name, "candidate", version)
    return Registered(version, difference)


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


@contextmanager
def open_version(
    model_uri: str, tracking_uri: str, flavor: Flavor = REWARD_MODEL
) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """The verified files of ``models:/NAME/VERSION``, and its tags.

    Raises:
        BadInputError: the registry has no such version, or it was not registered by rewardloop.
        RewardloopError: its files are not the ones that were registered.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    version = _version(client, model_uri)
    digest = version.tags.get(MANIFEST_TAG)
    if digest is None:
        raise BadInputError(f"{model_uri}: has no tag {MANIFEST_TAG}, so it was not registered by rewardloop")
    with _files(client, version, flavor) as directory:
        verify_manifest(directory, digest)
        yield directory, version.tags


def _version(client: MlflowClient, model_uri: str) -> ModelVersion:
    name, _, number = model_uri.removeprefix("models:/").partition("/")
    try:
        return client.get_model_version(name, number)
    except MlflowException as error:
        raise BadInputError(f"{model_uri}: is not in {client.tracking_uri}: {error.message}") from error


def _load(model_uri: str, tracking_uri: str, *, rounding: bool = False) -> tuple[RewardScorer, float]:
    from rewardloop.tracking.pyfunc_model import load_scoring

    with open_version(model_uri, tracking_uri) as (directory, _):
        # The copy has the same interface as the class it is a copy of.
        scorer = cast(RewardScorer, load_scoring(directory).RewardScorer.load(directory))
        difference = check_parity(scorer, directory / "parity.json", where=f"{model_uri} in {tracking_uri}")
        if rounding:
            scorer.allow_rounding(json.loads((directory / "parity.json").read_text(encoding="utf-8")))
        return scorer, difference


@contextmanager
def _files(client: MlflowClient, version: ModelVersion, flavor: Flavor) -> Iterator[Path]:
    """The version's files: where they lie if that is this machine, else downloaded for as long as they are needed."""
    place = client.get_model_version_download_uri(version.name, version.version)
    with tempfile.TemporaryDirectory() as temporary:
        target = None if place.startswith(("file:", "/")) else temporary
        try:
            root = download_artifacts(artifact_uri=place, dst_path=target, tracking_uri=client.tracking_uri)
        except (MlflowException, OSError) as error:
            raise RewardloopError(
                f"models:/{version.name}/{version.version}: its files at {place} cannot be read: {error}"
            ) from error
        yield Path(root) / "artifacts" / flavor.folder


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    page = client.search_model_versions(f"name = '{name}'")
    found += page
    while page.token:
        page = client.search_model_versions(f"name = '{name}'", page_token=page.token)
        found += page
    return found
