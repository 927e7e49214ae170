"""One retraining on everything in the store, claimed by exactly one process, and gone on with where one was killed.

In: settings, and why a run is wanted. Out: a run folder with the report, the evidence and the log; an MLflow run; when
the candidate is blessed, a new version; and the claim's outcome, after which nobody trains this corpus under these
settings by accident. ``rewardloop run`` and ``rewardloop trigger`` are two ways to come here.
"""

import os
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import typer

from rewardloop.cli.parameters import config_digest
from rewardloop.cli.run_result import RunResult
from rewardloop.cli.runners import containers_for
from rewardloop.cli.text_sets import keep_text_sets
from rewardloop.config import LoadedSettings, Settings
from rewardloop.errors import BadInputError
from rewardloop.feedback.store import Corpus, FeedbackStore
from rewardloop.operation.claims import ClaimState, Wanted, newest_claim, take
from rewardloop.operation.processes import is_gone

Say = Callable[[str], None]


def retrain(loaded: LoadedSettings, *, reason: str, again: str | None = None, say: Say = typer.echo) -> RunResult:
    """Train on the current corpus, unless that was done or is being done.

    Args:
        loaded: the checked settings.
        reason: why the run is started; it stays with the run.
        again: why it is to be trained although it was.
        say: shows a message.

    Raises:
        BadInputError: there is no feedback, or something that the run needs cannot be used; nothing was claimed.
        RewardloopError: the run was taken over by another process, which goes on with it.
    """
    if again is not None and not again.strip():
        raise BadInputError("--again: the reason is empty; say why the same is trained once more")
    settings = loaded.settings
    store = FeedbackStore.open(absolute(settings.store.url))
    corpus = store.current_corpus(settings.corpus)
    if not corpus.batches:
        raise _no_feedback(loaded, corpus)
    _check_devices(settings)
    text_sets = keep_text_sets(settings, store.storage)
    digest = config_digest(loaded, text_sets)
    before = newest_claim(store.storage, settings.claims, corpus.digest, digest)
    if before and again is None and before.state == "finished":
        return _nothing_new(loaded, corpus, before, say)
    tracking_uri = _connect(settings)  # an MLflow that does not answer is found out before the run leaves a trace
    if before and again is None and before.is_submitted:
        from rewardloop.cli.cluster_runs import whereabouts

        words = whereabouts(settings, store.storage, before, tracking_uri)
        if words:
            say(f"Claimed elsewhere: {words}")
            return RunResult("claimed elsewhere", 0, before.run_id)
    containers = containers_for(settings, store=store.storage.url, tracking_uri=tracking_uri)
    if containers:
        containers.check()
    store.write_corpus(corpus)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{corpus.digest[:8]}-{secrets.token_hex(2)}"
    wanted = Wanted(corpus=corpus.digest, config=digest, run_id=run_id, reason=reason, again=again)
    claim = take(store.storage, settings.claims, wanted)
    if isinstance(claim, ClaimState):
        if claim.state == "finished":
            return _nothing_new(loaded, corpus, claim, say)
        return _claimed_elsewhere(claim, say)
    from rewardloop.cli.claimed_run import ClaimedRun

    return ClaimedRun(loaded, store.storage, claim, tracking_uri, text_sets, say, containers).finish()


def absolute(url: str) -> str:
    """A store's URL; a local folder as an absolute path, since steps run elsewhere."""
    return url if "://" in url else str(Path(url).resolve())


def _no_feedback(loaded: LoadedSettings, corpus: Corpus) -> BadInputError:
    url, config = loaded.settings.store.url, loaded.path
    lines = [f"{url}: no feedback to train on; start with: rewardloop ingest FILE -c {config}"]
    if corpus.left_out:
        lines.append(f"or take a refused batch in: rewardloop accept BATCH --reason WHY -c {config}")
    lines += [f"  batch {digest[:12]} was {why}" for digest, why in corpus.left_out.items()]
    return BadInputError("\n".join(lines))


def close_cut_short(home: Path, claims: Iterable[ClaimState]) -> None:
    """Write what runs that were killed right after their outcome still owe: the report, the end of their MLflow run.

    Runs of another machine are left alone, and so are those whose process lives: it is writing just that.

    Args:
        home: the folder of the setting ``home``.
        claims: as ``read_claims`` gives them.
    """
    for claim in claims:
        run_dir = home / "runs" / claim.run_id
        if claim.state == "finished" and (run_dir / "run.json").is_file() and is_gone(claim.owner):
            from rewardloop.cli.claimed_run import close_run

            close_run(run_dir)


def _nothing_new(loaded: LoadedSettings, corpus: Corpus, claim: ClaimState, say: Say) -> RunResult:
    outcome = claim.outcome
    assert outcome is not None
    close_cut_short(Path(loaded.settings.home).resolve(), [claim])
    say(
        f"Nothing new: the {len(corpus.batches)} batch(es) in {loaded.settings.store.url} were trained with these "
        f"settings on {outcome.finished_at.isoformat(timespec='seconds')} ({outcome.status}).\n"
        f"Report: {outcome.report}\nTo train on them once more: rewardloop run --again REASON"
    )
    return RunResult("nothing new", 0, outcome.run_id, Path(outcome.report))


def _claimed_elsewhere(claim: ClaimState, say: Say) -> RunResult:
    since, last = (moment.isoformat(timespec="seconds") for moment in (claim.at, claim.last_beat))
    say(
        f"Claimed elsewhere: run {claim.run_id} of this corpus with these settings is under way by {claim.owner} since "
        f"{since}, its last heartbeat was at {last}; it is taken over if it falls silent"
    )
    return RunResult("claimed elsewhere", 0, claim.run_id)


def _connect(settings: Settings) -> str:
    from rewardloop.tracking.connection import connect

    uri = settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    return connect(uri, Path(settings.home).resolve(), settings.tracking.timeout_seconds)


def _check_devices(settings: Settings) -> None:
    """A device that this machine lacks is found out before a reward model is trained for it."""
    if settings.align is None:
        return
    from rewardloop.training.devices import choose_device

    choose_device(settings.align.device, "align.device")
    if settings.align.reward_url is None:
        choose_device(settings.align.reward_device, "align.reward_device")
