"""Training and alignment in two processes, and on two nodes, do what one process does.

Two processes are real ones, which talk through gloo. Two nodes are real processes too, started by the command of the
TrainJob's manifest with the variables that Trainer sets; the Kubernetes API between is a double (``tests.trainer``).
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from rewardloop.config import AlignSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import AlignmentEvidence, TrainingEvidence
from rewardloop.modeling.policy_parity import check_policy_parity
from rewardloop.steps.align_policy import align_policy
from rewardloop.steps.train_reward_model import train_reward_model
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.job import MANIFESTS
from rewardloop.training.ppo import PpoTrainer
from tests.aligned import Aligned, make_aligned, read
from tests.policies import letters_base, settings_of, trainer_of, vowels
from tests.preferences_tables import smoke_settings, write_film_tables
from tests.trainer import NAMESPACE, Cluster, run_nodes, trainer_cluster
from tests.two_processes import PROMPTS, learn

pytestmark = pytest.mark.timeout(900)  # several processes that each import their libraries

UPDATES = 3
TOLERANCE = 2e-5
"""Of weights in float32 after three updates at a learning rate of 3e-3: sums are made in another order."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return letters_base(tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    return make_aligned(tmp_path_factory.getbasetemp() / "aligned")


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film_tables(tmp_path_factory.mktemp("preferences"), 100)


def small(method: str) -> AlignSettings:
    """Five prompts in four minibatches: most of them are one process's alone."""
    return settings_of(
        method=method, prompts_per_update=5, samples_per_prompt=4, episodes=20 * UPDATES, evaluations=UPDATES,
        checkpoints=UPDATES, generation={"max_new_tokens": 5}, ppo={"minibatches": 4, "update_kl_limit": 5.0},
        kl={"beta": 0.1, "adaptive": True, "target": 0.5, "horizon": 100},
    )  # fmt: skip


def test_two_processes_align_as_one_does(base: Path, tmp_path: Path) -> None:
    wanted = {method: small(method) for method in ("full", "lora")}
    told = json.dumps({method: settings.model_dump(mode="json") for method, settings in wanted.items()})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*command, "-m", "tests.two_processes", str(base), str(tmp_path), told],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}, check=True, timeout=600,
    )  # fmt: skip
    firsts, seconds = (torch.load(tmp_path / rank / "result.pt", weights_only=True) for rank in "01")
    for method, settings in wanted.items():
        one = learn(base, tmp_path / "one" / method, settings)
        first, second = firsts[method], seconds[method]
        assert one["update"] == first["update"] == UPDATES
        for weights in ("last", "best"):
            for name, value in one[weights].items():
                torch.testing.assert_close(first[weights][name], value, atol=TOLERANCE, rtol=0)
        # The processes' own copies have not drifted apart by a bit.
        assert all(torch.equal(value, second["last"][name]) for name, value in first["last"].items())
        # The same answers, token by token, by whomever they were given.
        assert first["tokens"] == one["tokens"]
        for found, line in zip(first["samples"], one["samples"], strict=True):
            assert (found["prompt"], found["response"]) == (line["prompt"], line["response"])
        for found, point in zip(first["curve"], one["curve"], strict=True):
            for name in set(point) - {"tokens_per_second"}:
                assert found[name] == pytest.approx(point[name], rel=1e-3, abs=1e-5), name
        for found, point in zip(first["validation"], one["validation"], strict=True):
            assert found == pytest.approx(point, abs=1e-4)
        # Only the first process writes; what it wrote goes on in one process.
        assert not (tmp_path / "1" / method / "checkpoints").exists()
        again = trainer_of(tmp_path / "again" / method, base, settings, vowels, train=PROMPTS)
        assert again.run(CheckpointFolder(tmp_path / "0" / method / "checkpoints")) == UPDATES


def test_more_processes_than_prompts_are_refused(base: Path, tmp_path: Path) -> None:
    class Many:
        count = 9

    trainer = trainer_of(tmp_path, base, settings_of(), vowels)
    with pytest.raises(BadInputError, match=r"align\.prompts_per_update: found 8 for 9 processes"):
        PpoTrainer(
            trainer.policy, settings_of(), train=trainer.train, validation=trainer.validation,
            rewards=trainer.rewards, reference_facts=trainer.reference_facts, processes=Many(),  # type: ignore[arg-type]
        )  # fmt: skip


def align(made: Aligned, out: Path, *overrides: str) -> AlignmentEvidence:
    wanted = (
        "align.precision=float32", "align.episodes=32", "align.evaluations=2", "align.learning_rate=1e-3", *overrides
    )  # fmt: skip
    align_policy(
        start_policy=made.start,
        references=made.references,
        reward_model=made.reward_model,
        evaluation=made.evaluation,
        settings=smoke_settings(*wanted).section("align", "distributed"),
        code_version="1",
        policy=out,
    )
    found: AlignmentEvidence = read(AlignmentEvidence, out, "alignment")
    return found


def nodes_of(cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Overrides that send work to two nodes of the cluster."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(folder)))
    for name, value in (("POD_NAME", "step-pod"), ("POD_UID", "uid-of-the-step"), ("POD_NAMESPACE", NAMESPACE)):
        monkeypatch.setenv(name, value)
    return (
        "distributed.nodes=2",
        f"distributed.exchange=file://{folder}/exchange",
        "distributed.poll_seconds=0.2",
    )


def test_the_step_aligns_in_two_processes_and_on_two_nodes(
    made: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    one = align(made, tmp_path / "one")
    two = align(made, tmp_path / "two", "distributed.processes=2")
    with trainer_cluster(run_nodes) as cluster:
        nodes = align(made, tmp_path / "nodes", *nodes_of(cluster, tmp_path, monkeypatch))
        assert not cluster.jobs
    assert (one.processes, two.processes, nodes.processes) == (1, 2, 2)
    expected = load_file(tmp_path / "one" / "adapter" / "adapter_model.safetensors")
    for out, evidence in (("two", two), ("nodes", nodes)):
        assert evidence.updates == one.updates == 2
        # The reward model may compute in bfloat16, where rows of other answers round otherwise.
        for found, point in zip(evidence.curve, one.curve, strict=True):
            assert found.reward == pytest.approx(point.reward, abs=0.05)
            assert found.length == pytest.approx(point.length, abs=0.5)
        found = load_file(tmp_path / out / "adapter" / "adapter_model.safetensors")
        assert found.keys() == expected.keys()
        bases = Path(os.environ["REWARDLOOP_HOME"]) / "base-models"
        assert check_policy_parity(tmp_path / out, bases, where=out) < 1e-4
    # What the two ways made of the same answers and the same rewards is the same.
    for name, value in load_file(tmp_path / "two" / "adapter" / "adapter_model.safetensors").items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), atol=1e-4)
    [manifest] = (tmp_path / "nodes" / MANIFESTS).iterdir()
    assert manifest.name.startswith("align-policy-")
    assert "aligning" in capfd.readouterr().out  # the nodes' log is the step's


def test_a_reward_model_of_two_nodes_is_that_of_one_process(
    preferences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(out: Path, *overrides: str) -> TrainingEvidence:
        sections = ("model", "training", "distributed")
        train_reward_model(
            preferences=preferences,
            store="",
            settings=smoke_settings("training.precision=float32", *overrides).section(*sections),
            champion="",
            tracking_uri="",
            code_version="1",
            reward_model=out,
        )
        found: TrainingEvidence = read(TrainingEvidence, out, "training")
        return found

    expected = train(tmp_path / "one")
    monkeypatch.setenv("REWARDLOOP_RUN_DIR", str(tmp_path / "run"))
    with trainer_cluster(run_nodes) as cluster:
        wanted = nodes_of(cluster, tmp_path, monkeypatch)
        found = train(tmp_path / "nodes", *wanted)
        with pytest.raises(BadInputError, match="tokens_per_batch: found 8"):  # said by a node
            train(tmp_path / "refused", *wanted, "training.tokens_per_batch=8")
    assert (expected.processes, found.processes) == (1, 2)
    for name in ("curve", "validation"):
        losses = [[point.loss for point in getattr(one, name)] for one in (found, expected)]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    one, two = (load_file(tmp_path / out / "model" / "model.safetensors") for out in ("one", "nodes"))
    for name, value in one.items():
        np.testing.assert_allclose(two[name].numpy(), value.numpy(), atol=1e-5)
    # The manifest is kept with the run, and nothing is left where step and nodes met.
    assert list((tmp_path / "run" / MANIFESTS).glob("train-reward-model-*.yaml"))
    left = [path.parent.name for path in (tmp_path / "exchange").rglob("*.pt")]
    assert left == []


CALL = """
import json, sys
from rewardloop.training.fit import FitJob, fit
fit(FitJob(*json.loads(sys.argv[1])))
"""


def unreadable(folder: Path, *overrides: str) -> str:
    """A training whose processes wait for ever for their preferences, as JSON."""
    settings = smoke_settings(*overrides).section("model", "training", "distributed")
    (folder / "preferences").mkdir()
    os.mkfifo(folder / "preferences" / "items.parquet")
    return json.dumps([str(folder / "preferences"), "org/base", settings, str(folder / "c"), str(folder / "o")])


def wait_for(ready: Any) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sigterm_ends_the_processes_of_a_training(tmp_path: Path) -> None:
    """A step that is stopped leaves no process behind."""
    step = subprocess.Popen([sys.executable, "-c", CALL, unreadable(tmp_path, "distributed.processes=2")])
    ours = psutil.Process(step.pid)
    wait_for(lambda: len(ours.children(recursive=True)) >= 3)  # torchrun and two workers
    children = ours.children(recursive=True)
    step.send_signal(signal.SIGTERM)
    assert step.wait(120) == 128 + signal.SIGTERM
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_sigterm_deletes_the_train_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trainer_cluster() as cluster:
        wanted = nodes_of(cluster, tmp_path, monkeypatch)
        job = json.loads(unreadable(tmp_path, *wanted))
        (tmp_path / "preferences" / "items.parquet").unlink()  # inputs are sent before anything is made
        step = subprocess.Popen([sys.executable, "-c", CALL, json.dumps(job)])
        wait_for(lambda: cluster.jobs)
        step.send_signal(signal.SIGTERM)
        assert step.wait(120) == 128 + signal.SIGTERM
        assert not cluster.jobs
    assert [call.split()[0] for call in cluster.calls] == ["POST", "DELETE"]
