"""What MLflow shows of the history: aliases of versions, and policies whose reward model was rolled back.

In: the store's history. Out: aliases and tags in MLflow's registry, repaired wherever they say something else. Run as a
module it does so in a process of its own: ``rewardloop rollback`` does not wait for MLflow.
"""

import sys
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from rewardloop.errors import RewardloopError
from rewardloop.storage import Storage
from rewardloop.tracking.history import History, rolled_back
from rewardloop.tracking.outage import first_line, insist, is_outage
from rewardloop.tracking.registry import versions
from rewardloop.tracking.tags import REWARD_MODEL, ROLLED_BACK


def project(name: str, storage: Storage, tracking_uri: str) -> dict[str, int]:
    """Repair aliases and flags of an organization's models; returns the flagged policy versions.

    Args:
        name: the registered reward model.
        storage: of the feedback store.
        tracking_uri: where MLflow is.

    Returns:
        Policy version -> sequence of the rollback.

    Raises:
        BadInputError: registry and store do not belong together.
        RewardloopError: MLflow does not answer.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    history, policy = History(storage, name), f"{name.removesuffix('-reward')}-policy"
    history.project_aliases(client)
    History(storage, policy).project_aliases(client)
    left = {f"models:/{name}/{version}": sequence for version, sequence in rolled_back(history.records()).items()}
    try:
        return _flag(client, policy, left)
    except MlflowException as error:
        raise RewardloopError(f"{policy}: its versions in {tracking_uri} were not flagged: {error.message}") from error


def name_champion(history: History, tracking_uri: str) -> None:
    """Repair the aliases of one model right after its promotion, which stands whatever MLflow does.

    Raises:
        BadInputError: registry and store do not belong together.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    try:
        insist("naming the champion", lambda: history.project_aliases(client))
    except RewardloopError as error:
        if not is_outage(error):
            raise
        print(f"Warning: {first_line(error)}; the aliases are repaired by whoever reads them next", flush=True)


def _flag(client: MlflowClient, policy: str, left: Mapping[str, int]) -> dict[str, int]:
    flagged = {}
    for version in versions(client, policy):
        sequence = left.get(version.tags.get(REWARD_MODEL, ""))
        shown = version.tags.get(ROLLED_BACK)
        if sequence is not None:
            flagged[str(version.version)] = sequence
            if shown != str(sequence):
                client.set_model_version_tag(policy, str(version.version), ROLLED_BACK, str(sequence))
        elif shown is not None:
            client.delete_model_version_tag(policy, str(version.version), ROLLED_BACK)
    return flagged


if __name__ == "__main__":
    project(sys.argv[1], Storage.open(sys.argv[2]), sys.argv[3])
