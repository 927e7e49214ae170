"""Runs on Kubeflow Pipelines and the claims they belong to.

In: the claims of the store and an endpoint. Out: the run of a claim, by its name; claims closed whose run succeeded. A
process that submits a run holds its claim only while it does so, hence a claim that ended may have a living run.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from rewardloop.config import Settings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.storage import Storage

if TYPE_CHECKING:
    from rewardloop.cli.kubeflow import Kubeflow
    from rewardloop.operation.claims import Claim, ClaimOutcome, ClaimState
    from rewardloop.operation.trigger import Due

_SUCCEEDED = "SUCCEEDED"


def served_tracking_uri(settings: Settings) -> str:
    """MLflow's URI as pods see it.

    Raises:
        BadInputError: none is set (the default is a file of this machine), or pods could not use it.
    """
    from rewardloop.cli.kubeflow import check_reachable

    uri = settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        raise BadInputError(
            "tracking.uri: is not set, and the default is a file of this machine; a pod needs an MLflow server: "
            "tracking.uri: http://mlflow.example.org (or MLFLOW_TRACKING_URI)"
        )
    check_reachable("tracking.uri", uri)
    return uri


def run_name(organization: str, stem: str) -> str:
    """Name of the claim's run: the claim's own, shortened to what Kubeflow Pipelines takes."""
    names, _, repetition = stem.partition(".")
    corpus, _, config = names.partition("-")
    short = f"{organization}-{corpus[:16]}-{config[:16]}"
    return f"{short}.{repetition}" if repetition else short


def state_of(run: Any) -> str:
    """Its state in the words of Kubeflow Pipelines; a run that was just created has none yet."""
    return str(run.state or "PENDING")


def succeeded(run: Any) -> bool:
    """Whether every step is done; a candidate that was not blessed is a success, too."""
    return state_of(run) == _SUCCEEDED


def living_run(kubeflow: "Kubeflow", name: str) -> Any:
    """The newest run of this name that did not fail, or None."""
    from rewardloop.cli.kubeflow import FAILED

    alive = [run for run in kubeflow.runs(name) if state_of(run) not in FAILED]
    return max(alive, key=lambda run: str(run.created_at), default=None)


def settle(settings: Settings, storage: Storage, kubeflow: "Kubeflow", tracking_uri: str) -> None:
    """Close every claim whose run succeeded since somebody looked: its labels are pending no more."""
    from rewardloop.operation.claims import Claim, Wanted, newest_claim, read_claims, take

    for state in read_claims(storage, lease_seconds=settings.claims.lease_seconds):
        if not state.is_submitted:
            continue
        run = living_run(kubeflow, run_name(settings.organization, state.stem))
        newest = newest_claim(storage, settings.claims, state.corpus, state.config)
        if run is None or not succeeded(run) or newest is None or newest.stem != state.stem:
            continue
        wanted = Wanted(state.corpus, state.config, state.run_id, state.reason, state.again, submitted=True)
        claim = take(storage, settings.claims, wanted)
        if isinstance(claim, Claim):
            with held(claim):
                close(settings, claim, kubeflow, run, tracking_uri)


def settle_where_asked(settings: Settings, storage: Storage, claims: "Sequence[ClaimState]") -> bool:
    """``settle``, where a run was submitted and the environment names an endpoint; whether it was done.

    A look must not fail because a cluster does not answer: that is said, and looked at again next time.
    """
    from rewardloop.cli.kubeflow import Kubeflow
    from rewardloop.cli.kubeflow_errors import endpoint

    if not any(one.is_submitted for one in claims) or not endpoint()[1]:
        return False
    try:
        kubeflow = Kubeflow.connect(timeout_seconds=settings.tracking.timeout_seconds)
        settle(settings, storage, kubeflow, served_tracking_uri(settings))
    except RewardloopError as error:
        typer.echo(f"Warning: what became of submitted runs is not known: {error}", err=True)
        return False
    return True


def standing_on_cluster(
    settings: Settings, kubeflow: "Kubeflow", claims: "Sequence[ClaimState]", corpus: str, config: str
) -> "Due | None":
    """What the run of this corpus on the cluster says about another; None: none was submitted, or it is over.

    One that failed is submitted again after ``trigger.retry_failed_seconds``, and after each further failure twice as
    long: a look every few seconds must not fill the cluster with runs that all fail.
    """
    from rewardloop.operation.trigger import Due, newest_of

    state = newest_of(claims, corpus, config)
    if state is None or not state.is_submitted:
        return None
    now = datetime.now(UTC)
    run = living_run(kubeflow, run_name(settings.organization, state.stem))
    if run is not None:
        words = f"run {state.run_id} of this corpus is on Kubeflow Pipelines ({state_of(run)})"
        return Due(False, words, now + timedelta(seconds=settings.trigger.poll_seconds))
    again_at = state.at + timedelta(seconds=settings.trigger.retry_failed_seconds * 2 ** (state.attempt - 1))
    failed = f"run {state.run_id} of this corpus failed on Kubeflow Pipelines (submission {state.attempt})"
    if again_at > now:
        return Due(False, f"{failed}; it is submitted again at {again_at:%Y-%m-%d %H:%M:%S} UTC", again_at)
    return Due(True, f"{failed} and is submitted again")


def whereabouts(settings: Settings, storage: Storage, state: "ClaimState", tracking_uri: str) -> str | None:
    """Where the run of a submitted claim is, in words; None: it is over, or failed and may be gone on with here.

    Raises:
        BadInputError: the endpoint of the environment does not answer, or refuses the credentials.
    """
    from rewardloop.cli.kubeflow import Kubeflow
    from rewardloop.cli.kubeflow_errors import endpoint

    name, host = endpoint()
    submitted = (
        f"run {state.run_id} of this corpus with these settings was submitted to Kubeflow Pipelines on "
        f"{state.at:%Y-%m-%d %H:%M} UTC"
    )
    if not host:
        return f"{submitted}; to see what became of it set {name}, to train here all the same give --again REASON"
    kubeflow = Kubeflow.connect(timeout_seconds=settings.tracking.timeout_seconds)
    settle(settings, storage, kubeflow, tracking_uri)
    run = living_run(kubeflow, run_name(settings.organization, state.stem))
    if run is None or succeeded(run):
        return None
    return f"{submitted}, and is under way there ({state_of(run)}): {kubeflow.run_url(str(run.run_id))}"


def close(settings: Settings, claim: "Claim", kubeflow: "Kubeflow", run: Any, tracking_uri: str) -> "ClaimOutcome":
    """Write down what became of a run that succeeded: a version of it was registered, or it was not blessed."""
    from rewardloop.operation.claims import ClaimOutcome, read_claims
    from rewardloop.tracking.registry import find

    corpus, config = claim.attempt.corpus, claim.attempt.config
    version = find(settings.model_name, {"corpus_digest": corpus, "config_digest": config}, tracking_uri)
    others = [one.outcome for one in read_claims(claim.storage) if (one.corpus, one.config) == (corpus, config)]
    if version in [outcome.version for outcome in others if outcome]:
        version = None  # it is of the training that this one repeats
    outcome = ClaimOutcome(
        status="blessed" if version else "not blessed",
        finished_at=run.finished_at or datetime.now(UTC),
        report=kubeflow.run_url(str(run.run_id)),
        run_id=claim.attempt.run_id,
        version=version,
    )
    claim.close(outcome)
    return outcome


@contextlib.contextmanager
def held(claim: "Claim") -> Iterator[None]:
    """Hold the claim for the moment that looking and submitting takes, and free it."""

    def lost() -> None:  # a lease is minutes long, and this takes seconds
        typer.echo(f"Warning: the claim {claim.stem} was taken over while submitting", err=True)

    with claim.hold(lost):
        yield
