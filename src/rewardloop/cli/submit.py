"""``rewardloop submit``: one retraining of the current corpus on a Kubeflow Pipelines endpoint.

In: settings, the store's current corpus, the endpoint of the environment. Out: a run there, with the parameters that
``rewardloop run`` would use here.

Who submits holds the corpus's claim while he looks for an earlier run of it and starts another; then the claim ends,
since no process here lives as long as the run there. The run's name carries the claim's, so that whoever comes next
finds the run, leaves it alone while it is under way, closes the claim when it succeeded, and submits again when it
failed. ``rewardloop run`` elsewhere looks for it too (``cluster_runs.whereabouts``).
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, Profile, read_settings
from rewardloop.cli.parameters import code_version, config_digest, pipeline_name, pipeline_parameters, reason_of
from rewardloop.config import LoadedSettings, Settings
from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.cli.kubeflow import Kubeflow, Version
    from rewardloop.feedback.store import Corpus, FeedbackStore
    from rewardloop.operation.claims import Claim, ClaimOutcome, ClaimState


def submit(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    profile: Profile = None,
    again: Annotated[
        str | None, typer.Option(metavar="REASON", help="Submit although this corpus was trained with these settings.")
    ] = None,
) -> None:
    """Start one retraining on Kubeflow Pipelines, at the endpoint that KF_PIPELINES_ENDPOINT (or KFP_ENDPOINT) names.

    Exit codes: 0 submitted, or nothing to submit; 1 the endpoint failed; 2 bad input.
    """
    typer.echo(submit_run(read_settings(config, overrides, profile), again=again).words)


@dataclass(frozen=True)
class Submission:
    """What came of it; ``run_id`` of the new run, None where none was started."""

    run_id: str | None
    words: str


def submit_run(loaded: LoadedSettings, *, again: str | None = None, reason: str = "submitted by hand") -> Submission:
    """Start a run where the corpus has none, or none that did not fail.

    Args:
        loaded: the checked settings.
        again: why it is to be trained although it was.
        reason: why the run is started; it stays with the run.

    Raises:
        BadInputError: there is no feedback, the cluster's pods could not reach the store or MLflow, or the endpoint
            does not answer or refuses the credentials.
    """
    from rewardloop.cli.cluster_runs import served_tracking_uri, settle
    from rewardloop.cli.kubeflow import Kubeflow, check_reachable
    from rewardloop.cli.text_sets import keep_text_sets
    from rewardloop.feedback.store import FeedbackStore

    settings = loaded.settings
    if again is not None and not again.strip():
        raise BadInputError("--again: the reason is empty; say why the same is trained once more")
    check_reachable("store.url", settings.store.url)
    tracking_uri = served_tracking_uri(settings)
    store = FeedbackStore.open(settings.store.url)
    corpus = store.current_corpus(settings.corpus)
    if not corpus.batches:
        raise BadInputError(f"{settings.store.url}: no feedback to train on; start with: rewardloop ingest FILE")
    kubeflow = Kubeflow.connect(timeout_seconds=settings.tracking.timeout_seconds)
    settle(settings, store.storage, kubeflow, tracking_uri)
    wanted = _Wanted(loaded, store, corpus, keep_text_sets(settings, store.storage), tracking_uri, again, reason)
    words = wanted.standing(kubeflow)
    return Submission(None, words) if words else wanted.submit(kubeflow)


@dataclass
class _Wanted:
    """One corpus under one configuration that is to be trained on the cluster."""

    loaded: LoadedSettings
    store: "FeedbackStore"
    corpus: "Corpus"
    text_sets: dict[str, str]
    tracking_uri: str
    again: str | None
    reason: str

    @property
    def settings(self) -> Settings:
        return self.loaded.settings

    @property
    def config(self) -> str:
        return config_digest(self.loaded, self.text_sets)

    def standing(self, kubeflow: "Kubeflow") -> str | None:
        """What stands in the way, as far as the latest claim and its run say; None: nothing."""
        from rewardloop.cli.cluster_runs import living_run, run_name
        from rewardloop.operation.claims import newest_claim

        state = newest_claim(self.store.storage, self.settings.claims, self.corpus.digest, self.config)
        if state is None or (state.outcome and self.again):
            return None
        if state.outcome or state.state == "running":
            return _taken(state)
        run = living_run(kubeflow, run_name(self.settings.organization, state.stem))
        return None if run is None else _under_way(kubeflow, run)

    def submit(self, kubeflow: "Kubeflow") -> Submission:
        """Claim the corpus, look once more, and start the run."""
        from rewardloop.cli.cluster_runs import close, held, living_run, run_name, succeeded
        from rewardloop.operation.claims import ClaimState, Wanted, take

        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{self.corpus.digest[:8]}-{secrets.token_hex(2)}"
        wanted = Wanted(self.corpus.digest, self.config, run_id, self.reason, self.again, submitted=True)
        claim: Claim | ClaimState = take(self.store.storage, self.settings.claims, wanted)
        if isinstance(claim, ClaimState):
            return Submission(None, _taken(claim))
        name = run_name(self.settings.organization, claim.stem)
        with held(claim):
            run = living_run(kubeflow, name)
            if run is None:
                return self._start(kubeflow, name, claim.stem.partition(".")[2])
            if succeeded(run):
                return Submission(None, _over(close(self.settings, claim, kubeflow, run, self.tracking_uri)))
            return Submission(None, _under_way(kubeflow, run))

    def _start(self, kubeflow: "Kubeflow", name: str, repetition: str) -> Submission:
        graph = runnable(kubeflow, self.settings)
        self.store.write_corpus(self.corpus)
        pipeline = pipeline_name(self.settings)
        run_id = kubeflow.submit(
            name,
            graph,
            self._parameters(repetition),
            experiment=kubeflow.experiment(self.settings.schedule.experiment),
            service_account=self.settings.placement.service_account,
        )
        return Submission(run_id, f"Submitted {pipeline} as {name}: run {run_id}\n{kubeflow.run_url(run_id)}")

    def _parameters(self, repetition: str) -> dict[str, str]:
        from rewardloop.tracking.history import History

        champion = History(self.store.storage, self.settings.model_name).champion()
        return pipeline_parameters(
            self.settings,
            store=self.store.storage.url,
            corpus_digest=self.corpus.digest,
            config_digest=self.config,
            champion=champion.version if champion else None,
            tracking_uri=self.tracking_uri,
            text_sets=self.text_sets,
            trigger_reason=reason_of(self.reason, self.again),
            # A repetition shares no result with what it repeats, but with its own earlier attempts.
            code="-".join(filter(None, (code_version(), repetition))),
        )


def runnable(kubeflow: "Kubeflow", settings: Settings) -> "str | Version":
    """The shipped graph; where steps are placed, the version that was deployed with this placement.

    Raises:
        BadInputError: no such version is on the endpoint.
    """
    from rewardloop.cli.graphs import deployed_version, shipped

    name = pipeline_name(settings)
    if settings.placement.is_empty():
        return shipped(name)
    return deployed_version(kubeflow, name, settings.placement)


def _taken(state: "ClaimState") -> str:
    if state.outcome:
        return _over(state.outcome)
    return f"Run {state.run_id} of this corpus is under way: {state.owner}, since {_at(state.at)}"


def _over(outcome: "ClaimOutcome") -> str:
    return (
        f"Nothing new: this corpus was trained with these settings until {_at(outcome.finished_at)} "
        f"({outcome.status}).\nReport: {outcome.report}\nTo train on it once more: rewardloop submit --again REASON"
    )


def _under_way(kubeflow: "Kubeflow", run: Any) -> str:
    from rewardloop.cli.cluster_runs import state_of

    return f"Run {run.run_id} of this corpus is under way ({state_of(run)}): {kubeflow.run_url(str(run.run_id))}"


def _at(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
