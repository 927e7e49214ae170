"""Register a blessed candidate and make it the champion, or let it wait for a person's approval.

In: a trained candidate, its final scoring and parity files, and the blessing. Out: a version in MLflow's registry with
the alias ``candidate``; where promotion is automatic also the alias ``champion`` and a record in the store's history;
and the evidence of both. A step that is tried again finds the version it registered before.
"""

import json
import os
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path

from rewardloop import __version__
from rewardloop.config import PromotionSettings, ThresholdSettings
from rewardloop.errors import NotBlessedError, RewardloopError
from rewardloop.evaluation.reference import REFERENCE_FILE
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
from rewardloop.tracking.history import History, HistoryRecord
from rewardloop.tracking.manifest import write_manifest
from rewardloop.tracking.outage import insist, outages_in_words
from rewardloop.tracking.policy_registration import register_policy
from rewardloop.tracking.projection import name_champion
from rewardloop.tracking.registration import Registered, register
from rewardloop.tracking.registry import find
from rewardloop.tracking.runs import current_run
from rewardloop.tracking.tags import AGAINST, BLESSED, FIRST, MANIFEST, THRESHOLD


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
        settings: JSON with ``organization`` and the sections ``threshold`` and ``promotion``.
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
    automatic = PromotionSettings.model_validate(sections["promotion"]).mode == "auto"
    with step_run("register_models", inputs=[reward_model, evaluation, blessing], output=registration) as run:
        verdict = Blessing.model_validate_json((blessing / "blessing.json").read_bytes())
        _check_blessing(verdict, reward_model, evaluation, corpus_digest)
        measured = EvaluationEvidence.model_validate_json((evaluation / "evidence" / "evaluation.json").read_bytes())
        scoring = json.loads((evaluation / "scoring.json").read_text(encoding="utf-8"))
        history = History(Storage.open(store), name)
        expected = None if verdict.champion == NO_CHAMPION else verdict.champion
        lineage = {"corpus_digest": corpus_digest, "config_digest": config_digest}
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary) / "reward_model"
            manifest = _assemble(directory, reward_model, evaluation)
            done, promotion = _register(
                directory,
                history,
                # Only the very same files are the same version: equal weights may come with another threshold.
                same={"candidate_digest": verdict.candidate, MANIFEST: manifest} | lineage,
                tags=_measured_tags(measured, scoring["threshold"], wanted) | {AGAINST: expected or FIRST},
                expected=expected,
                promotes=automatic,
                tracking_uri=tracking_uri,
            )
        if automatic and promotion is None:
            promotion = history.append(
                "promote",
                done.version,
                expected=expected,
                why="blessed by the gate",
                threshold=scoring["threshold"],
                compared_with=verdict.champion,
            )
        name_champion(history, tracking_uri)
        champion = history.champion()
        evidence = RegistrationEvidence(
            name=name,
            version=done.version,
            champion=champion is not None and champion.version == done.version,
            waiting=promotion is None,
            previous=promotion.previous if promotion else None,
            threshold=scoring["threshold"],
            history_sequence=promotion.sequence if promotion else None,
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
                tags=lineage | _run_tags(),
                measured=PolicyEvaluationEvidence.model_validate_json(
                    (blessing / "evidence" / "policy_evaluation.json").read_bytes()
                ),
                promote=automatic,
            )
        run.write("registration", evidence)
        run.produced = _in_words(evidence)


def _register(
    directory: Path,
    history: History,
    *,
    same: dict[str, str],
    tags: dict[str, str],
    expected: str | None,
    promotes: bool,
    tracking_uri: str,
) -> tuple[Registered, HistoryRecord | None]:
    """The version of the files in ``directory``, and the record that promoted it before, if one did.

    ``expected`` is the champion that the candidate was compared with; where it is promoted it must still be that.
    """
    name = history.model_name
    with outages_in_words(f"{name}: looking for its version", tracking_uri):
        before = insist("looking for the version", lambda: find(name, same, tracking_uri))
    # A run that is resumed after its version was promoted must not promote it again: maybe it was rolled back since.
    promotion = _promotion_of(history, before)
    if promotes and promotion is None:
        _check_current(name, history.champion(), expected)
    pipeline_run = current_run()
    done = register(
        directory,
        name=name,
        same=same,
        tags=tags,
        tracking_uri=tracking_uri,
        parent_run_id=pipeline_run[1] if pipeline_run else None,
    )
    return done, promotion


def _in_words(done: RegistrationEvidence) -> str:
    limit = "no threshold" if done.threshold is None else f"threshold {done.threshold:.3f}"
    place = "champion" if done.champion else "waiting for approval" if done.waiting else "no longer champion"
    policy = f"; {done.policy.name} version {done.policy.version}" if done.policy else ""
    return f"{done.name} version {done.version}, {place}, {limit}{policy}"


def _promotion_of(history: History, version: str | None) -> HistoryRecord | None:
    """The latest record that promoted ``version``."""
    own = [one for one in history.records() if one.version == version and one.action == "promote"]
    return own[-1] if own else None


def _check_current(name: str, champion: HistoryRecord | None, expected: str | None) -> None:
    current = champion.version if champion else None
    if current != expected:
        raise RewardloopError(
            f"{name}: the candidate was compared with {_named(expected)}, but the champion is now "
            f"{_named(current)}; run again to compare with that. Nothing was registered"
        )


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
    if (evaluation / REFERENCE_FILE).is_file():  # what drift is measured against; older evaluations have none
        shutil.copyfile(evaluation / REFERENCE_FILE, directory / REFERENCE_FILE)
    (directory / "scoring").mkdir()
    for source in files("rewardloop.modeling.scoring").iterdir():
        if source.name.endswith(".py"):
            (directory / "scoring" / source.name).write_bytes(source.read_bytes())
    return write_manifest(directory)


def _measured_tags(measured: EvaluationEvidence, threshold: float | None, wanted: ThresholdSettings) -> dict[str, str]:
    """Tags of a version; what is unknown has none."""
    rates = measured.threshold
    tags = {
        THRESHOLD: threshold,
        "block_threshold": rates.review.block_threshold if rates.review else None,
        "alpha": wanted.alpha,
        "delta": wanted.delta,
        "false_accept_rate": rates.false_accept_rate and rates.false_accept_rate.value,
        "false_block_rate": rates.false_block_rate and rates.false_block_rate.value,
        "unacceptable_among_accepted": rates.unacceptable_among_accepted and rates.unacceptable_among_accepted.value,
        "accuracy": measured.accuracy.value,
        BLESSED: "true",
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
    done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603  found by which
    return done.stdout.strip() if done.returncode == 0 else None


def _named(version: str | None) -> str:
    return "no champion" if version is None else f"version {version}"
