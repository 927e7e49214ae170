"""Register a blessed candidate and make it the champion; nothing else ever is.

In: a trained candidate, its final scoring and parity files, and the blessing. Out: a version in MLflow's registry with
the aliases ``candidate`` and ``champion``, a record in the store's history, and the evidence of both. A step that is
tried again finds the version it registered before.
"""

import json
import os
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path

from mlflow import MlflowClient

from rewardloop import __version__
from rewardloop.config import ThresholdSettings
from rewardloop.errors import NotBlessedError, RewardloopError
from rewardloop.evidence import (
    NO_CHAMPION,
    Blessing,
    EvaluationEvidence,
    PolicyEvaluationEvidence,
    RegistrationEvidence,
)
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.steps.step_run import run_folder, step_run
from rewardloop.storage import Storage
from rewardloop.tracking.history import History
from rewardloop.tracking.manifest import write_manifest
from rewardloop.tracking.policy_registration import register_policy
from rewardloop.tracking.registry import MANIFEST_TAG, Registered, find, parity_of, register
from rewardloop.tracking.runs import current_run


def register_models(
    *,
    reward_model: Path,
    evaluation: Path,
    blessing: Path,
    store: str,
    settings: str,
    tracking_uri: str,
    corpus_digest: str,
    config_digest: str,
    registration: Path,
    policy: Path | None = None,
) -> None:
    """Register one blessed candidate, and its policy if that is blessed too.

    Args:
        reward_model: output of ``train_reward_model``.
        evaluation: output of ``evaluate_reward_model``.
        blessing: output of ``decide_promotion``.
        store: URL of the feedback store, for the history.
        settings: JSON with ``organization`` and the section ``threshold``.
        tracking_uri: MLflow's URI.
        corpus_digest: the corpus of this run.
        config_digest: digest of the settings of this run.
        registration: output folder.
        policy: output of ``align_policy``; None where no policy was made.

    Raises:
        NotBlessedError: the blessing does not say yes.
        RewardloopError: the blessing is for another candidate, corpus or champion, or the version does not score as
            certified when loaded back; nothing was promoted.
    """
    sections = json.loads(settings)
    name = f"{sections['organization']}-reward"
    wanted = ThresholdSettings.model_validate(sections["threshold"])
    with step_run("register_models", inputs=[reward_model, evaluation, blessing], output=registration) as run:
        verdict = Blessing.model_validate_json((blessing / "blessing.json").read_bytes())
        _check_blessing(verdict, reward_model, evaluation, corpus_digest)
        measured = EvaluationEvidence.model_validate_json((evaluation / "evidence" / "evaluation.json").read_bytes())
        scoring = json.loads((evaluation / "scoring.json").read_text(encoding="utf-8"))
        history = History(Storage.open(store), name)
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary) / "reward_model"
            manifest = _assemble(directory, reward_model, evaluation)
            # Only the very same files are the same version: equal weights may come with another threshold.
            same = {
                "candidate_digest": verdict.candidate,
                "corpus_digest": corpus_digest,
                "config_digest": config_digest,
                MANIFEST_TAG: manifest,
            }
            before = find(name, same, tracking_uri)
            champion = history.champion()
            current = champion.version if champion else None
            expected = None if verdict.champion == NO_CHAMPION else verdict.champion
            promoted = before is not None and current == before
            if not promoted and current != expected:
                raise RewardloopError(
                    f"{name}: the candidate was compared with {_named(expected)}, but the champion is now "
                    f"{_named(current)}; run again to compare with that. Nothing was registered"
                )
            if before is None:
                tags = same | _measured_tags(measured, scoring["threshold"], wanted)
                pipeline_run = current_run()
                parent = pipeline_run[1] if pipeline_run else None
                done = register(directory, name=name, tags=tags, tracking_uri=tracking_uri, parent_run_id=parent)
            else:
                done = Registered(before, parity_of(f"models:/{name}/{before}", tracking_uri))
        if not promoted:
            champion = history.append(
                "promote",
                done.version,
                expected=expected,
                why="blessed by the gate",
                threshold=scoring["threshold"],
                compared_with=verdict.champion,
            )
        assert champion is not None
        history.project_aliases(MlflowClient(tracking_uri=tracking_uri))
        evidence = RegistrationEvidence(
            name=name,
            version=done.version,
            champion=True,
            previous=champion.previous,
            threshold=scoring["threshold"],
            history_sequence=champion.sequence,
            manifest_digest=manifest,
            parity_difference=done.parity_difference,
        )
        if policy is not None and verdict.policy is not None and verdict.policy.blessed:
            evidence.policy = register_policy(
                policy,
                verdict.policy,
                name=f"{sections['organization']}-policy",
                reward_model=f"models:/{name}/{done.version}",
                store=store,
                tracking_uri=tracking_uri,
                tags={"corpus_digest": corpus_digest, "config_digest": config_digest} | _run_tags(),
                measured=PolicyEvaluationEvidence.model_validate_json(
                    (blessing / "evidence" / "policy_evaluation.json").read_bytes()
                ),
            )
        run.write("registration", evidence)
        limit = "no threshold" if evidence.threshold is None else f"threshold {evidence.threshold:.3f}"
        run.produced = f"{name} version {done.version}, champion, {limit}"
        if evidence.policy:
            run.produced += f"; {evidence.policy.name} version {evidence.policy.version}"


def _check_blessing(verdict: Blessing, reward_model: Path, evaluation: Path, corpus_digest: str) -> None:
    if not verdict.blessed:
        raise NotBlessedError(f"The candidate was not blessed, nothing was registered: {'; '.join(verdict.reasons)}")
    digest = weights_digest(reward_model / "model")
    evaluated = json.loads((evaluation / "candidate.json").read_text(encoding="utf-8"))["digest"]
    for what, found in (("the evaluation", evaluated), ("the blessing", verdict.candidate)):
        if found != digest:
            raise RewardloopError(
                f"{reward_model}: this candidate is {digest[:12]}, but {what} is for {found[:12]}; "
                "evaluate this candidate again. Nothing was registered"
            )
    if verdict.corpus_digest != corpus_digest:
        raise RewardloopError(
            f"The blessing is for corpus {verdict.corpus_digest[:12]}, but this run is for {corpus_digest[:12]}; "
            "run again. Nothing was registered"
        )


def _assemble(directory: Path, reward_model: Path, evaluation: Path) -> str:
    """Everything a version scores with, in one folder; returns the digest of its manifest."""
    shutil.copytree(reward_model / "model", directory / "model")
    for name in ("scoring.json", "parity.json"):
        shutil.copyfile(evaluation / name, directory / name)
    (directory / "scoring").mkdir()
    for source in files("rewardloop.modeling.scoring").iterdir():
        if source.name.endswith(".py"):
            (directory / "scoring" / source.name).write_bytes(source.read_bytes())
    return write_manifest(directory)


def _measured_tags(measured: EvaluationEvidence, threshold: float | None, wanted: ThresholdSettings) -> dict[str, str]:
    """Tags of a version; what is unknown has none."""
    rates = measured.threshold
    tags = {
        "threshold": threshold,
        "block_threshold": rates.review.block_threshold if rates.review else None,
        "alpha": wanted.alpha,
        "delta": wanted.delta,
        "false_accept_rate": rates.false_accept_rate and rates.false_accept_rate.value,
        "false_block_rate": rates.false_block_rate and rates.false_block_rate.value,
        "unacceptable_among_accepted": rates.unacceptable_among_accepted and rates.unacceptable_among_accepted.value,
        "accuracy": measured.accuracy.value,
        "blessed": "true",
    }
    return {name: str(value) for name, value in tags.items() if value is not None} | _run_tags()


def _run_tags() -> dict[str, str]:
    """Where a version comes from; what is unknown has none."""
    folder = run_folder()
    tags = {
        "git_commit": _git_commit(),
        "rewardloop_run_id": folder.name if folder else None,
        "kfp_run_id": os.environ.get("KFP_RUN_ID"),
        "rewardloop_version": __version__,
    }
    return {name: value for name, value in tags.items() if value is not None}


def _git_commit() -> str | None:
    """Commit of the folder the run was started in; None without git or outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None


def _named(version: str | None) -> str:
    return "no champion" if version is None else f"version {version}"
