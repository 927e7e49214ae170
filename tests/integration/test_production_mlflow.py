"""MLflow as in production: PostgreSQL behind it, artifacts passed on to S3, the feedback store on S3, no engine."""

import contextlib
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
import requests
import yaml
from botocore.exceptions import ClientError
from mlflow import MlflowClient

from tests import production
from tests.production_place import TEXTS, Place
from tests.smoke_data import write_ratings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # processes that each import their libraries
_RUNBOOK = Path("docs/runbook.md").read_text(encoding="utf-8")
_UPGRADE = yaml.safe_load(Path("deploy/kubernetes/components/mlflow-upgrade/job.yaml").read_text(encoding="utf-8"))


def _runbook(title: str) -> list[str]:
    """The commands of a section of the runbook, as one script."""
    found = re.search(rf"^#+ {re.escape(title)}$.*?^```sh\n(.*?)^```$", _RUNBOOK, re.MULTILINE | re.DOTALL)
    assert found, title
    return ["bash", "-euo", "pipefail", "-c", found[1]]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that PostgreSQL's user may enter, as pytest's own may not be."""
    made = Path(tempfile.mkdtemp(prefix="rewardloop-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def place(folder: Path) -> Iterator[Place]:
    """Servers, and a workplace after its first batch and run."""
    production.postgres_programs()
    one = Place(folder / "first")
    one.folder.mkdir()
    with contextlib.ExitStack() as servers:
        one.start_storage(servers)
        one.make_buckets()
        one.start_mlflow(servers)
        servers.callback(one.end_commands)
        one.write_config()
        batch = write_ratings(one.folder / "batch.csv", texts=700, seed=1)
        one.rewardloop("ingest", str(batch))
        one.rewardloop("run")
        yield one


def test_registry_and_store_are_where_they_belong(place: Place) -> None:
    version = place.client.get_model_version_by_alias("smoke-reward", "champion")
    assert str(version.version) == "1"
    assert version.source.startswith("mlflow-artifacts:/")
    assert place.sql("select name, version from model_versions") == ["smoke-reward|1"]
    assert list((place.folder / "artifacts" / "mlflow" / "artifacts").rglob("model.safetensors"))
    assert not (place.folder / ".rewardloop" / "mlflow.db").exists()
    assert not (place.folder / ".rewardloop" / "store").exists()
    (record,) = json.loads(place.rewardloop("history", "--json"))
    assert (record["version"], record["action"]) == ("1", "promote")
    said = place.rewardloop("score", *(part for text in TEXTS for part in ("--text", text)))
    good, _, bad, _ = said.splitlines()[-4:]
    assert "accept" in good
    assert "block" in bad
    for log in place.folder.glob("*.log"):
        assert production.SECRET not in log.read_text(), log


def test_mlflow_answers_to_its_name_in_the_network_and_to_no_other(place: Place) -> None:
    for host, status in (("mlflow:5000", 200), ("evil.example:5000", 403)):
        answer = requests.post(
            f"{place.mlflow.url}/api/2.0/mlflow/experiments/search",
            json={"max_results": 1},
            headers={"Host": host},
            timeout=60,
        )
        assert answer.status_code == status, answer.text


def test_artifacts_are_refused_to_whoever_does_not_sign(place: Place) -> None:
    right = place.artifacts["AWS_SECRET_ACCESS_KEY"]
    for secret, ways in ((right, contextlib.nullcontext()), ("wrong", pytest.raises(ClientError, match="Signature"))):
        s3 = boto3.client(
            "s3",
            endpoint_url=place.artifacts["AWS_ENDPOINT_URL"],
            aws_access_key_id=place.artifacts["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=secret,
            region_name="us-east-1",
        )
        with ways:
            assert s3.list_objects_v2(Bucket="mlflow")["KeyCount"] > 0


def test_of_two_runs_at_once_no_version_is_lost(place: Place) -> None:
    """They differ in the gate alone, so both take the training from the cache and register at the same moment."""
    for_both = ("run", "--set", "organization=pair", "--set", "promotion.mode=approval")
    limits = ("gate.min_accuracy=0.6", "gate.min_accuracy=0.65")
    processes = [place.begin(*for_both, "--set", limit) for limit in limits]
    for process in processes:
        said, _ = process.communicate(timeout=1800)
        assert process.returncode == 0, said
    versions = place.client.search_model_versions("name = 'pair-reward'")
    assert sorted(int(one.version) for one in versions) == [1, 2]
    assert {one.tags["blessed"] for one in versions} == {"true"}
    ours = {json.loads((run / "evidence" / "registration.json").read_text())["version"] for run in place.runs("pair")}
    assert ours == {"1", "2"}
    assert len({one.tags["config_digest"] for one in versions}) == 2
    aliases = place.client.get_registered_model("pair-reward").aliases
    assert set(aliases) == {"candidate"}


def test_of_eight_who_name_the_first_candidate_at_once_none_fails(place: Place) -> None:
    """MLflow itself refuses some of them now and then: it looks for the alias, and then inserts it."""
    from rewardloop.tracking.registration import name_candidate

    client, together = place.client, threading.Barrier(8)
    (run,) = client.search_runs([client.get_experiment_by_name("smoke").experiment_id], max_results=1)

    def name_it(model: str, version: str) -> None:
        together.wait()
        name_candidate(MlflowClient(place.mlflow.url), model, version)

    with ThreadPoolExecutor(8) as threads:
        for model in (f"crowd-{number}" for number in range(4)):
            client.create_registered_model(model)
            source = {"source": f"{run.info.artifact_uri}/nothing", "run_id": run.info.run_id}
            versions = [str(client.create_model_version(model, **source).version) for _ in range(8)]
            list(threads.map(name_it, [model] * 8, versions))
            assert str(client.get_registered_model(model).aliases["candidate"]) in versions
            client.delete_registered_model(model)


def test_server_restarted_in_the_middle_of_a_run(place: Place) -> None:
    """Finished, or cleanly failed and finished by the next."""
    command = ("run", "--set", "organization=restarted")
    process = place.begin(*command)
    until = time.monotonic() + 1200
    while not any((run / "steps" / "register_models.json").exists() for run in place.runs("restarted")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    place.mlflow.kill()
    time.sleep(5)
    place.mlflow.start()
    said, _ = process.communicate(timeout=1800)
    if process.returncode != 0:
        assert process.returncode == 1, said
        assert "Nothing was promoted" in said or "did not answer" in said, said
        said = place.rewardloop(*command)
    assert "champion" in said
    (version,) = place.client.search_model_versions("name = 'restarted-reward'")
    assert version.tags["blessed"] == "true"
    aliases = place.client.get_registered_model("restarted-reward").aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {"candidate": "1", "champion": "1"}
    assert len(json.loads(place.rewardloop("history", "--json", "--set", "organization=restarted"))) == 1


def test_what_was_backed_up_serves_again_from_empty_servers(place: Place, folder: Path) -> None:
    """The commands are those of the runbook."""
    before = {
        "registry": place.registry(),
        "history": json.loads(place.rewardloop("history", "--json")),
        "decisions": place.served(),
        "batches": place.rewardloop("batches"),
    }
    words = {"BACKUP": str(folder / "backup"), "STORE": "feedback/store", "ARTIFACTS": "mlflow/artifacts"}
    place.shell(_runbook("Back up"), words | _remotes(place))
    place.mlflow.stop()
    again = Place(folder / "second")
    again.folder.mkdir()
    with contextlib.ExitStack() as servers:
        again.start_storage(servers)
        again.make_buckets()
        assert again.sql("select count(*) from pg_tables where schemaname = 'public'") == ["0"]
        again.shell(_runbook("Restore"), words | _remotes(again))
        # After an upgrade of MLflow; here there is nothing to do, but to find the database.
        again.shell(_UPGRADE["spec"]["template"]["spec"]["containers"][0]["args"], again.database)
        again.start_mlflow(servers)
        again.write_config()
        after = {
            "registry": again.registry(),
            "history": json.loads(again.rewardloop("history", "--json")),
            "decisions": again.served(),
            "batches": again.rewardloop("batches"),
        }
        assert set(before["registry"]) >= {"smoke-reward"}
        assert [one["allowed"] for one in before["decisions"]][::2] == [True, False]
        assert after == before
        # The claims came back too: nobody trains again what was trained.
        assert again.rewardloop("run").startswith("Nothing new")


def _remotes(place: Place) -> dict[str, str]:
    return (
        production.rclone_remote("STORE", place.store)
        | production.rclone_remote("ARTIFACTS", place.artifacts)
        | place.database
    )
