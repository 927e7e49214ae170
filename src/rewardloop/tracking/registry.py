"""Registered reward models: find one, load one; nothing is loaded that is not what was registered.

In: the name of a version, or an alias. Out: the version in MLflow's registry, its tags, or a ``RewardScorer`` that
scores with the version's own code.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.storage import Storage
from rewardloop.tracking import tags
from rewardloop.tracking.flavors import REWARD_MODEL, Flavor
from rewardloop.tracking.history import History
from rewardloop.tracking.manifest import verify_manifest

if TYPE_CHECKING:
    # It takes torch: whoever only asks for versions, their tags and aliases need not wait for that.
    from rewardloop.modeling.scoring import RewardScorer

MANIFEST_TAG = tags.MANIFEST


def resolve(model_name: str, version_or_alias: str, tracking_uri: str, storage: Storage) -> str:
    """``models:/NAME/VERSION`` for a version number or an alias.

    ``champion`` and ``previous`` are read from the history, and MLflow's aliases are repaired where they differ.

    Raises:
        BadInputError: there is no such version; what exists is listed.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    known = sorted(int(item.version) for item in versions(client, model_name))
    exists = f"registered: {', '.join(map(str, known))}" if known else "nothing is registered yet: rewardloop run"
    if version_or_alias in ("champion", "previous"):
        history = History(storage, model_name)
        record = history.champion()
        version = record and (record.version if version_or_alias == "champion" else history.previous())
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


def load_scorer(model_uri: str, tracking_uri: str, *, rounding: bool = False) -> "RewardScorer":
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
    found: Mapping[str, str] = _version(MlflowClient(tracking_uri=tracking_uri), model_uri).tags
    return found


def find(name: str, same: Mapping[str, str], tracking_uri: str) -> str | None:
    """The newest version that carries all tags of ``same``, or None."""
    known = versions(MlflowClient(tracking_uri=tracking_uri), name)
    fitting = [int(item.version) for item in known if same.items() <= item.tags.items()]
    return str(max(fitting)) if fitting else None


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


def _load(model_uri: str, tracking_uri: str, *, rounding: bool = False) -> "tuple[RewardScorer, float]":
    from rewardloop.modeling.parity import check_parity
    from rewardloop.tracking.pyfunc_model import load_scoring

    with open_version(model_uri, tracking_uri) as (directory, _):
        # The copy has the same interface as the class it is a copy of.
        scorer = cast("RewardScorer", load_scoring(directory).RewardScorer.load(directory))
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


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of a registered model; none where there is no such model."""
    found: list[ModelVersion] = []
    page = client.search_model_versions(f"name = '{name}'")
    found += page
    while page.token:
        page = client.search_model_versions(f"name = '{name}'", page_token=page.token)
        found += page
    return found
