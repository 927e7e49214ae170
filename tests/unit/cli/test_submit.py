"""``rewardloop submit`` against a server that speaks Kubeflow Pipelines' API: one run of a corpus, whoever asks."""

import json
import multiprocessing
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rewardloop.cli.looking import Looker
from rewardloop.cli.main import app
from rewardloop.cli.parameters import code_version, config_digest, pipeline_parameters
from rewardloop.cli.retraining import retrain
from rewardloop.cli.submit import submit_run
from rewardloop.config import LoadedSettings, load_settings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claims import Claim, Wanted, read_claims, take
from rewardloop.operation.status import status
from tests.kubeflow import Cluster, kubeflow
from tests.unit.feedback.test_store import put


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    with kubeflow() as one:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", one.url)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("KFP_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT", "MLFLOW_TRACKING_URI"):
            monkeypatch.delenv(name, raising=False)
        yield one


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real MLflow with a registered model that nothing of these tests is in."""
    from rewardloop.tracking.connection import connect

    return connect(None, tmp_path_factory.mktemp("mlflow"), 20)


@pytest.fixture
def loaded(tmp_path: Path, tracking: str) -> LoadedSettings:
    found = load_settings(
        Path("conf/smoke.yaml"), [f"store.url={tmp_path / 'store'}", f"tracking.uri={tracking}", "align="]
    )
    put(opened(found), found.settings, "a")
    return found


def opened(loaded: LoadedSettings) -> FeedbackStore:
    return FeedbackStore.open(loaded.settings.store.url)


def only_run(cluster: Cluster) -> dict[str, Any]:
    [one] = cluster.things["runs"]
    return one


def test_the_run_has_the_parameters_of_a_local_one(cluster: Cluster, loaded: LoadedSettings) -> None:
    done = submit_run(loaded)
    run, corpus = only_run(cluster), opened(loaded).current_corpus()
    assert done.run_id == run["run_id"]
    assert f"{cluster.url}/#/runs/details/{done.run_id}" in done.words
    digest = config_digest(loaded, {})
    assert run["runtime_config"]["parameters"] == pipeline_parameters(
        loaded.settings,
        store=loaded.settings.store.url,
        corpus_digest=corpus.digest,
        config_digest=digest,
        champion=None,
        tracking_uri=str(loaded.settings.tracking.uri),
        text_sets={},
        trigger_reason="submitted by hand",
    )
    shipped = next(yaml.safe_load_all(Path("src/rewardloop/compiled/retrain.yaml").read_text()))
    assert run["pipeline_spec"]["pipelineInfo"] == shipped["pipelineInfo"]
    assert set(run["runtime_config"]["parameters"]) == set(shipped["root"]["inputDefinitions"]["parameters"])
    # The run's name carries the claim's, and the corpus is where its first step looks for it.
    assert run["display_name"] == f"smoke-{corpus.digest[:16]}-{digest[:16]}"
    assert [claim.stem for claim in read_claims(opened(loaded).storage)] == [f"{corpus.digest}-{digest}"]
    assert opened(loaded).read_corpus(corpus.digest) == corpus


def test_where_steps_are_placed_the_deployed_version_runs(
    cluster: Cluster, loaded: LoadedSettings, tmp_path: Path
) -> None:
    from pipelines.deploy import deploy

    def placed(image: str) -> LoadedSettings:
        names = (f"placement.default.image={image}", "placement.service_account=runner")
        places = (f"store.url={tmp_path / 'store'}", f"tracking.uri={loaded.settings.tracking.uri}", "align=")
        return load_settings(Path("conf/smoke.yaml"), [*places, *names])

    with pytest.raises(BadInputError, match=r"placement: no version of rewardloop-retrain .*pipelines deploy"):
        submit_run(placed("registry/loop:1"))
    assert cluster.things["runs"] == []
    for image in ("registry/loop:1", "registry/loop:2"):
        deploy(placed(image))
    assert submit_run(placed("registry/loop:1")).run_id is not None
    run = only_run(cluster)
    version = run["pipeline_version_reference"]["pipeline_version_id"]
    [used] = [one for one in cluster.things["versions"] if one["pipeline_version_id"] == version]
    assert "registry/loop:1" in used["text"]
    assert (run["service_account"], run.get("pipeline_spec")) == ("runner", None)


def test_the_pod_of_the_recurring_run_finds_the_version(
    cluster: Cluster, tmp_path: Path, loaded: LoadedSettings
) -> None:
    """What it reads is the JSON of the settings, whose keys are in another order than those of the file."""
    from pipelines.deploy import deploy

    choice = ["placement.default.node_selector={zone: b, pool: cpu}", "placement.default.image=registry/loop:1"]
    places = [f"store.url={tmp_path / 'store'}", f"tracking.uri={loaded.settings.tracking.uri}", "align="]
    deploy(load_settings(Path("conf/smoke.yaml"), [*places, *choice]))
    [recurring] = cluster.things["recurringruns"]
    (tmp_path / "settings").write_text(recurring["runtime_config"]["parameters"]["settings"])
    assert submit_run(load_settings(tmp_path / "settings")).run_id is not None


def test_a_run_under_way_is_left_alone(cluster: Cluster, loaded: LoadedSettings) -> None:
    first = submit_run(loaded)
    for state in ("PENDING", "RUNNING", "PAUSED"):
        cluster.finish(state)
        assert f"Run {first.run_id} of this corpus is under way ({state})" in submit_run(loaded).words
    assert only_run(cluster)


def test_nobody_trains_here_what_is_trained_there(
    cluster: Cluster, loaded: LoadedSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit_run(loaded)
    said: list[str] = []
    assert retrain(loaded, reason="by hand", say=said.append).kind == "claimed elsewhere"
    assert f"is under way there (PENDING): {cluster.url}/#/runs/details/{first.run_id}" in said[-1]
    [shown] = status(loaded.settings, opened(loaded), None, None).claims
    assert shown.state == "submitted"
    looker = Looker(loaded, said.append)
    assert "was submitted" in looker.due().reason
    with monkeypatch.context() as patch:
        patch.delenv("KF_PIPELINES_ENDPOINT")
        assert retrain(loaded, reason="by hand", say=said.append).kind == "claimed elsewhere"
        assert "to see what became of it set KF_PIPELINES_ENDPOINT, to train here all the same give --again" in said[-1]
    cluster.finish("SUCCEEDED")
    # Whoever looks, here too, closes the claim of a run that is over.
    assert looker.due().reason == "0 of 1 new labels"
    assert retrain(loaded, reason="by hand", say=said.append).kind == "nothing new"


def test_a_run_that_failed_is_submitted_again(cluster: Cluster, loaded: LoadedSettings) -> None:
    first = submit_run(loaded)
    cluster.finish("FAILED")
    second = submit_run(loaded)
    assert second.run_id not in (None, first.run_id)
    assert len({run["display_name"] for run in cluster.things["runs"]}) == 1


def test_a_run_that_succeeded_closes_the_claim_and_again_is_another(cluster: Cluster, loaded: LoadedSettings) -> None:
    first = submit_run(loaded)
    cluster.finish("SUCCEEDED")
    shown = submit_run(loaded)
    assert shown.run_id is None
    # No version carries this corpus: the gate refused it.
    assert "Nothing new: this corpus was trained with these settings until 2027-01-15" in shown.words
    [claim] = read_claims(opened(loaded).storage)
    assert claim.outcome is not None
    assert (claim.outcome.status, claim.outcome.version) == ("not blessed", None)
    assert claim.outcome.report.endswith(f"/#/runs/details/{first.run_id}")

    repeated = submit_run(loaded, again="the labelers were trained")
    assert repeated.run_id is not None
    run = cluster.things["runs"][-1]
    assert run["display_name"].endswith(".again-0001")
    # Nothing of the first training is taken from the cache, whose keys have this parameter.
    given = run["runtime_config"]["parameters"]
    assert given["code_version"] == f"{code_version()}-again-0001"
    assert given["trigger_reason"] == "submitted by hand; again: the labelers were trained"
    assert "under way" in submit_run(loaded).words


def test_a_registered_version_makes_it_blessed(cluster: Cluster, loaded: LoadedSettings) -> None:
    from mlflow import MlflowClient

    submit_run(loaded)
    cluster.finish("SUCCEEDED")
    [before] = read_claims(opened(loaded).storage)
    client = MlflowClient(tracking_uri=loaded.settings.tracking.uri)
    client.create_registered_model("smoke-reward")
    tags = {"corpus_digest": before.corpus, "config_digest": before.config}
    client.create_model_version("smoke-reward", "file:///nowhere", tags=tags)
    # Feedback that came meanwhile makes another corpus; the old one's claim is closed all the same.
    put(opened(loaded), loaded.settings, "b", second=1)
    assert submit_run(loaded).run_id is not None
    [outcome] = [claim.outcome for claim in read_claims(opened(loaded).storage) if claim.outcome]
    assert (outcome.status, outcome.version) == ("blessed", "1")


def triggered(loaded: LoadedSettings, **policy: Any) -> tuple[int, list[str]]:
    """Exit code and words of ``rewardloop trigger --once --submit``."""
    arguments = ["trigger", "--once", "--submit", "-c", "conf/smoke.yaml", "--set", "align="]
    arguments += ["--set", f"store.url={loaded.settings.store.url}"]
    arguments += ["--set", f"tracking.uri={loaded.settings.tracking.uri}"]
    for name, value in policy.items():
        arguments += ["--set", f"trigger.{name}={value}"]
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output.splitlines()


def test_a_trigger_submits_what_is_due(cluster: Cluster, loaded: LoadedSettings) -> None:
    assert triggered(loaded, min_new_labels=9) == (0, ["Not due: 8 of 9 new labels"])
    assert cluster.things["runs"] == []
    assert read_claims(opened(loaded).storage) == []
    code, said = triggered(loaded, min_new_labels=8)
    assert code == 0
    assert said[0] == "Due: 8 new labels (trigger.min_new_labels: 8)"
    assert said[1].startswith("Submitted retrain as ")
    assert only_run(cluster)["runtime_config"]["parameters"]["trigger_reason"].startswith("8 new labels")
    assert triggered(loaded)[1][0].endswith("is on Kubeflow Pipelines (PENDING)")
    cluster.finish("SUCCEEDED")
    assert triggered(loaded) == (0, ["Not due: 0 of 1 new labels"])
    assert [claim.state for claim in read_claims(opened(loaded).storage)] == ["finished"]


def test_a_trigger_submits_a_failed_run_again_after_a_pause(cluster: Cluster, loaded: LoadedSettings) -> None:
    triggered(loaded)
    cluster.finish("FAILED")
    assert "failed on Kubeflow Pipelines (submission 1); it is submitted again at" in triggered(loaded)[1][0]
    assert len(cluster.things["runs"]) == 1
    assert triggered(loaded, retry_failed_seconds=0.001)[1][0].endswith("(submission 1) and is submitted again")
    assert len(cluster.things["runs"]) == 2
    cluster.finish("FAILED")
    [claim] = read_claims(opened(loaded).storage)
    # Twice the pause after the second failure.
    words = triggered(loaded, retry_failed_seconds=3600)[1][0]
    assert f"again at {claim.at + timedelta(hours=2):%Y-%m-%d %H:%M:%S} UTC" in words


def test_a_trigger_takes_the_inbox_and_submits(cluster: Cluster, loaded: LoadedSettings, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    rows = "".join(f"{n},text {n},w{n % 2},{n % 5}\n" for n in range(6))
    (tmp_path / "inbox" / "labels.csv").write_text("id,text,labeler,score\n" + rows)
    code, said = triggered(loaded, inbox=tmp_path / "inbox", stable_seconds=0, min_new_labels=14)
    assert code == 0
    assert "Due: 14 new labels (trigger.min_new_labels: 14)" in said
    [run] = cluster.things["runs"]
    assert run["runtime_config"]["parameters"]["corpus_digest"] == opened(loaded).current_corpus().digest


def test_a_trigger_says_at_once_what_no_run_there_could_use(cluster: Cluster) -> None:
    with pytest.raises(BadInputError, match=r"store.url: '\.rewardloop/store' is a folder of this machine"):
        CliRunner().invoke(app, ["trigger", "--once", "--submit", "-c", "conf/smoke.yaml"], catch_exceptions=False)
    assert cluster.changes == []


def test_a_run_that_was_cut_short_here_goes_on_there_and_is_closed(cluster: Cluster, loaded: LoadedSettings) -> None:
    store = opened(loaded)
    wanted = Wanted(store.current_corpus().digest, config_digest(loaded, {}), "begun-here", "by hand")
    claim = take(store.storage, loaded.settings.claims, wanted)
    assert isinstance(claim, Claim)
    claim.beat(ended=True)
    assert "was not finished and goes on" in triggered(loaded)[1][0]
    assert len(cluster.things["runs"]) == 1
    cluster.finish("SUCCEEDED")
    assert triggered(loaded) == (0, ["Not due: 0 of 1 new labels"])
    [closed] = read_claims(store.storage)
    assert (closed.run_id, closed.reason, closed.attempt) == ("begun-here", "by hand", 3)


def test_a_repetition_is_not_credited_with_the_first_version(cluster: Cluster, loaded: LoadedSettings) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=loaded.settings.tracking.uri)
    put(opened(loaded), loaded.settings, "c", second=1)
    submit_run(loaded)
    cluster.finish("SUCCEEDED")
    [before] = read_claims(opened(loaded).storage)
    if not client.search_registered_models("name='smoke-reward'"):
        client.create_registered_model("smoke-reward")
    tags = {"corpus_digest": before.corpus, "config_digest": before.config}
    made = client.create_model_version("smoke-reward", "file:///nowhere", tags=tags)
    assert submit_run(loaded, again="once more").run_id is not None
    cluster.finish("SUCCEEDED")
    submit_run(loaded)
    outcomes = [claim.outcome for claim in read_claims(opened(loaded).storage) if claim.outcome]
    assert [one.status for one in outcomes] == ["blessed", "not blessed"]
    assert [one.version for one in outcomes] == [str(made.version), None]


def test_of_many_at_once_one_submits(cluster: Cluster, loaded: LoadedSettings) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        done = pool.map(_submitted, [loaded] * 4)
    assert sum(run_id is not None for run_id in done) == 1
    assert only_run(cluster)["run_id"] in done


def _submitted(loaded: LoadedSettings) -> str | None:
    return submit_run(loaded).run_id


def test_an_endpoint_that_fails_leaves_the_corpus_free(cluster: Cluster, loaded: LoadedSettings) -> None:
    cluster.broken = True
    with pytest.raises(RewardloopError, match="503 Service Unavailable"):
        submit_run(loaded)
    cluster.broken = False
    assert submit_run(loaded).run_id is not None


def test_every_page_of_runs_is_looked_at(cluster: Cluster, loaded: LoadedSettings) -> None:
    first = submit_run(loaded)
    name = only_run(cluster)["display_name"]
    for _ in range(150):
        cluster.things["runs"].insert(0, {"run_id": "old", "display_name": name, "state": "FAILED"})
    assert f"Run {first.run_id} of this corpus is under way" in submit_run(loaded).words


def test_bad_input_is_named(cluster: Cluster, loaded: LoadedSettings, tmp_path: Path) -> None:
    empty = load_settings(
        Path("conf/smoke.yaml"), [f"store.url={tmp_path / 'empty'}", "tracking.uri=http://m", "align="]
    )
    with pytest.raises(BadInputError, match="no feedback to train on; start with: rewardloop ingest"):
        submit_run(empty)
    with pytest.raises(BadInputError, match="--again: the reason is empty"):
        submit_run(loaded, again=" ")
    with pytest.raises(BadInputError, match=r"store.url: '\.rewardloop/store' is a folder of this machine"):
        submit_run(load_settings(Path("conf/smoke.yaml"), ["tracking.uri=http://m"]))
    assert json.dumps(cluster.changes) == "[]"
