"""A blessed policy becomes a registered version that names the reward model it was aligned to.

In: the policy's folder, the verdict on it, the reward model's version. Out: a version of ``<organization>-policy`` with
the alias ``candidate`` and, where no person has to approve it, ``champion`` with a record in the store's history.
"""

import os
import shutil
import tempfile
from pathlib import Path

from rewardloop.errors import RewardloopError
from rewardloop.evidence import PolicyEvaluationEvidence, PolicyRegistration, PolicyVerdict
from rewardloop.modeling.policy import policy_digest
from rewardloop.modeling.policy_parity import check_policy_parity
from rewardloop.storage import Storage
from rewardloop.tracking.flavors import POLICY
from rewardloop.tracking.history import History
from rewardloop.tracking.manifest import write_manifest
from rewardloop.tracking.projection import name_champion
from rewardloop.tracking.registration import register
from rewardloop.tracking.registry import open_version
from rewardloop.tracking.runs import current_run
from rewardloop.tracking.tags import AGAINST, BLESSED, MANIFEST, REFERENCE, REWARD_MODEL

_FILES = ("policy.json", "parity.json", "adapter", "model")


def register_policy(
    policy: Path,
    verdict: PolicyVerdict,
    *,
    name: str,
    reward_model: str,
    store: str,
    tracking_uri: str,
    tags: dict[str, str],
    measured: PolicyEvaluationEvidence,
    promote: bool = True,
) -> PolicyRegistration:
    """Register one blessed policy and make it the champion; a try that finds its own version goes on from there.

    Args:
        policy: output of ``align_policy``.
        verdict: the gate's.
        name: the registered model's.
        reward_model: ``models:/NAME/VERSION`` that it was aligned to.
        store: URL of the feedback store, for the history.
        tracking_uri: MLflow's URI.
        tags: of the run: corpus, configuration, commit.
        measured: what the policy was blessed for.
        promote: False: it stays a candidate until a person approves it.

    Raises:
        RewardloopError: the verdict is on another policy, or the version is not the policy when loaded back.
    """
    digest = policy_digest(policy)
    if digest != verdict.candidate:
        raise RewardloopError(
            f"{policy}: this policy is {digest[:12]}, but the blessing is for {verdict.candidate[:12]}; evaluate this "
            "policy again. It was not registered"
        )
    cache = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop")) / "base-models"
    history = History(Storage.open(store), name)
    champion = history.champion()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / POLICY.folder
        directory.mkdir()
        for file in _FILES:
            source = policy / file
            if source.is_dir():
                shutil.copytree(source, directory / file)
            elif source.is_file():
                shutil.copyfile(source, directory / file)
        manifest = write_manifest(directory)
        same = {"policy_digest": digest, REWARD_MODEL: reward_model, MANIFEST: manifest}

        def verify(model_uri: str, uri: str) -> float:
            with open_version(model_uri, uri, POLICY) as (loaded, _):
                return check_policy_parity(loaded, cache, where=f"{model_uri} in {uri}")

        run = current_run()
        version = register(
            directory,
            name=name,
            same=same,
            tags=tags | _measured_tags(measured),
            tracking_uri=tracking_uri,
            parent_run_id=run[1] if run else None,
            flavor=POLICY,
            verify=verify,
        ).version
    # A version that was promoted once, and perhaps rolled back since, is not promoted again by itself.
    own = [one for one in history.records() if one.version == version and one.action == "promote"]
    promotion = own[-1] if own else None
    if promote and promotion is None:
        promotion = history.append(
            "promote",
            version,
            expected=champion.version if champion else None,
            why=f"blessed by the gate, aligned to {reward_model}",
            threshold=None,
            compared_with=REFERENCE,
        )
    name_champion(history, tracking_uri)
    return PolicyRegistration(
        name=name,
        version=version,
        reward_model=reward_model,
        previous=promotion.previous if promotion else None,
        manifest_digest=manifest,
        waiting=promotion is None,
    )


def _measured_tags(measured: PolicyEvaluationEvidence) -> dict[str, str]:
    values = {
        "reward_gain": measured.reward.difference.value,
        "kl": measured.kl.value,
        "win_rate": measured.judges[0].win_rate.value,
        "second_judge_win_rate": measured.judges[1].win_rate.value,
        BLESSED: "true",
        AGAINST: REFERENCE,
    }
    return {key: str(value) for key, value in values.items()}
