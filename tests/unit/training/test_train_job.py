"""A TrainJob by the real SDK against an API server on this machine: its manifest, its log, its end."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow.trainer import CustomTrainerContainer, KubernetesBackendConfig, TrainerClient, options

from rewardloop.config import DistributedSettings
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.training.job import MANIFESTS
from rewardloop.training.launch import run
from tests.trainer import NAMESPACE, Cluster, Node, trainer_cluster

NODE = {
    "image": "registry/mine:2",
    "cpu_limit": "8",
    "memory_limit": "64Gi",
    "accelerator": "nvidia.com/gpu",
    "accelerators": 4,
    "node_selector": {"pool": "large"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "shared_memory": "16Gi",
    "volumes": [{"claim": "exchange", "path": "/shared"}],
    "environment": {"NCCL_DEBUG": "WARN"},
    "secrets": {"hub": {"HF_TOKEN": "token"}},
    "image_pull_secrets": ["registry"],
}


@dataclass(frozen=True)
class SmallJob:
    """A job whose work the test's cluster only pretends to do."""

    data: str
    checkpoints: str
    output: str

    def inputs(self) -> dict[str, str]:
        return {"data": self.data}


@pytest.fixture
def job(tmp_path: Path) -> SmallJob:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "rows.txt").write_text("rows")
    return SmallJob(*(str(tmp_path / name) for name in ("data", "work/checkpoints", "output")))


def settings_of(folder: Path, **fields: Any) -> DistributedSettings:
    small = {"nodes": 2, "exchange": f"file://{folder}/exchange", "poll_seconds": 0.02, "node": {"image": "i"}}
    return DistributedSettings.model_validate(small | fields)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Point this process at a cluster; as the step's pod if asked."""

    def point(cluster: Cluster, *, in_a_pod: bool = False) -> Cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path)))
        for name, value in (("POD_NAME", "step-pod"), ("POD_UID", "uid-of-the-step"), ("POD_NAMESPACE", NAMESPACE)):
            monkeypatch.setenv(name, value) if in_a_pod else monkeypatch.delenv(name, raising=False)
        return cluster

    return point


def complete(folder: Path) -> Any:
    """What nodes do in a good job: write the log, make the output, end."""

    def play(cluster: Cluster, name: str) -> None:
        nodes = [Node(f"{name}-node-{index}", index) for index in (0, 1)]
        cluster.nodes[name] = nodes
        for node in nodes:
            node.phase = "Running"
        for line in ("step 1 of 2", "step 2 of 2"):
            nodes[0].log.append(line)
            time.sleep(0.05)
        there = folder / "exchange" / name
        told = json.loads((there / "job.json").read_text())
        assert (there / "inputs" / "data" / "deep" / "rows.txt").read_text() == "rows"
        assert told["job"]["checkpoints"] == str(there / "checkpoints")
        (there / "output").mkdir()
        (there / "output" / "made.txt").write_text("made")
        for node in nodes:
            node.phase = "Succeeded"
        cluster.end(name, "Complete")

    return play


def test_the_manifest_is_what_the_sdk_makes_of_the_same_arguments(tmp_path: Path, job: SmallJob, at: Any) -> None:
    """Every field; only the secrets' references and the owner are added."""
    with trainer_cluster(complete(tmp_path)) as cluster:
        at(cluster, in_a_pod=True)
        run("train_reward_model", job, settings_of(tmp_path, node=NODE, deadline_hours=2), 1)
        name = cluster.made[0]["metadata"]["name"]
        pod = options.PodSpecPatch(
            volumes=[
                {"name": "scratch", "emptyDir": {}},
                {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
                {"name": "volume-0", "persistentVolumeClaim": {"claimName": "exchange"}},
            ],
            containers=[
                options.ContainerPatch(
                    name="node",
                    volume_mounts=[
                        {"name": "scratch", "mountPath": "/tmp"},
                        {"name": "shared-memory", "mountPath": "/dev/shm"},
                        {"name": "volume-0", "mountPath": "/shared"},
                    ],
                    security_context={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                )
            ],
            image_pull_secrets=[{"name": "registry"}],
            security_context={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            node_selector={"pool": "large"},
            tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        )
        spec = options.JobSpecPatch(template=options.PodTemplatePatch(spec=pod))
        replicated = options.ReplicatedJobPatch(name="node", template=options.JobTemplatePatch(spec=spec))
        jobs = options.JobSetTemplatePatch(spec=options.JobSetSpecPatch(replicated_jobs=[replicated]))
        command = ["python", "-m", "torch.distributed.run", "--nproc-per-node=4", "-m", "rewardloop.training.worker"]
        cluster.play = lambda cluster, name: None
        client = TrainerClient(KubernetesBackendConfig(config_file=str(tmp_path / "kubeconfig"), namespace=NAMESPACE))
        client.train(
            runtime="torch-distributed",
            trainer=CustomTrainerContainer(
                image="registry/mine:2",
                num_nodes=2,
                resources_per_node={"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 4},
                env={"NCCL_DEBUG": "WARN"},
            ),
            options=[
                options.Name(name),
                options.Labels({"app.kubernetes.io/part-of": "rewardloop", "rewardloop/step": "train_reward_model"}),
                options.TrainerCommand([*command, f"file://{tmp_path}/exchange/{name}"]),
                options.RuntimePatch(training_runtime_spec=options.TrainingRuntimeSpecPatch(template=jobs)),
                options.ActiveDeadlineSeconds(7200),
            ],
        )
        ours, theirs = cluster.made
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "step-pod", "uid": "uid-of-the-step"}
    assert ours["metadata"].pop("ownerReferences") == [owner]
    secret = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}
    assert ours["spec"]["trainer"]["env"].pop() == secret
    assert ours == theirs
    assert theirs["spec"]["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == 4
    assert theirs["spec"]["runtimeRef"] == {"kind": "ClusterTrainingRuntime", "name": "torch-distributed"}


def test_a_job_takes_image_and_secrets_from_its_step_and_gives_its_output_back(
    tmp_path: Path, job: SmallJob, at: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with trainer_cluster(complete(tmp_path)) as cluster:
        at(cluster, in_a_pod=True)
        run("align_policy", job, settings_of(tmp_path, node={}, processes=3), 1)
        [made] = cluster.made
        name = made["metadata"]["name"]
        assert cluster.calls == [f"{do} /namespaces/{NAMESPACE}/trainjobs{end}" for do, end in
                                 (("POST", ""), ("DELETE", f"/{name}"))]  # fmt: skip
    assert made["spec"]["trainer"]["image"] == "registry/rewardloop-gpu:1"
    assert "--nproc-per-node=3" in made["spec"]["trainer"]["command"]
    [only] = made["spec"]["trainer"]["env"]
    assert only == {
        "name": "AWS_SECRET_ACCESS_KEY",
        "valueFrom": {"secretKeyRef": {"name": "store", "key": "secret"}},
    }
    assert (Path(job.output) / "made.txt").read_text() == "made"
    assert yaml.safe_load((Path(job.output) / MANIFESTS / f"{name}.yaml").read_text()) == made
    assert not (tmp_path / "exchange" / name).exists()
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("step")] == ["step 1 of 2", "step 2 of 2"]


def fail(folder: Path, error: str | None = None) -> Any:
    def play(cluster: Cluster, name: str) -> None:
        lines = [f"line {number}" for number in range(30)]
        cluster.nodes[name] = [
            Node(f"{name}-node-0", 0, "Succeeded", ["fine"]),
            Node(f"{name}-node-1", 1, "Failed", lines),
        ]
        if error:
            (folder / "exchange" / name / "error.json").write_text(json.dumps({"error": error}))
        cluster.end(name, "Failed", "JobsFailed", "jobset failed due to one or more job failures")

    return play


def test_a_failed_job_fails_the_step_with_its_nodes_last_lines(tmp_path: Path, job: SmallJob, at: Any) -> None:
    with trainer_cluster(fail(tmp_path)) as cluster:
        at(cluster)
        with pytest.raises(RewardloopError) as failed:
            run("train_reward_model", job, settings_of(tmp_path, last_lines=2), 1)
        [name] = cluster.jobs  # left to be looked at
    assert str(failed.value) == (
        f"train_reward_model: TrainJob {name} failed (JobsFailed: jobset failed due to one or more job failures)\n"
        f"node-1 ({name}-node-1), last lines:\nline 28\nline 29"
    )
    assert failed.value.exit_code == 1
    assert [path.stem for path in (Path(job.output) / MANIFESTS).iterdir()] == [name]


def test_what_a_node_found_wrong_with_its_input_is_the_steps_error(tmp_path: Path, job: SmallJob, at: Any) -> None:
    with trainer_cluster(fail(tmp_path, "training: out of memory")) as cluster:
        at(cluster)
        with pytest.raises(BadInputError, match=r"^training: out of memory$"):
            run("train_reward_model", job, settings_of(tmp_path), 1)


def test_an_earlier_try_is_replaced_and_its_checkpoints_stay(tmp_path: Path, job: SmallJob, at: Any) -> None:
    with trainer_cluster(fail(tmp_path)) as cluster:
        at(cluster)
        with pytest.raises(RewardloopError):
            run("train_reward_model", job, settings_of(tmp_path), 1)
        [name] = cluster.jobs
        kept = tmp_path / "exchange" / name / "checkpoints" / "checkpoint.pt"
        kept.parent.mkdir()
        kept.write_text("so far")
        seen: list[bool] = []

        def look(cluster: Cluster, name: str) -> None:
            seen.append(kept.read_text() == "so far")
            complete(tmp_path)(cluster, name)

        cluster.play = look
        run("train_reward_model", job, settings_of(tmp_path), 1)
    assert seen == [True]
    assert [call.split()[0] for call in cluster.calls] == ["POST", "DELETE", "POST", "DELETE"]
    # Other work has another name.
    other = SmallJob(**asdict(job) | {"checkpoints": "elsewhere"})
    with trainer_cluster(complete(tmp_path)) as cluster:
        at(cluster)
        run("train_reward_model", other, settings_of(tmp_path), 1)
    assert cluster.made[0]["metadata"]["name"] != name


def test_nodes_that_never_start_are_given_up_with_the_reason(tmp_path: Path, job: SmallJob, at: Any) -> None:
    def wait(cluster: Cluster, name: str) -> None:
        cluster.nodes[name] = [Node(f"{name}-node-0", 0)]
        cluster.events = [
            {
                "metadata": {"name": "e"},
                "involvedObject": {"kind": "Pod", "name": f"{name}-node-0"},
                "firstTimestamp": "2026-11-21T12:00:00Z",
                "reason": "FailedScheduling",
                "message": "0/3 nodes have nvidia.com/gpu",
            }
        ]

    with trainer_cluster(wait) as cluster:
        at(cluster)
        with pytest.raises(RewardloopError, match=r"distributed\.start_minutes = 0\.005 \(FailedScheduling: 0/3"):
            run("train_reward_model", job, settings_of(tmp_path, start_minutes=0.005), 1)
        assert not cluster.jobs


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((401, "Unauthorized"), "answers 401: Unauthorized; the token of the step's service account"),
        ((403, "trainjobs is forbidden"), r"answers 403: trainjobs is forbidden; give the step's service account"),
        ((403, "exceeded quota: gpus"), "answers 403: exceeded quota: gpus; .* raise the quota of its namespace"),
        ((422, "must not have envs"), r"answers 422: must not have envs; .* distributed\.node"),
    ],
)
def test_a_refusal_of_the_cluster_names_its_mend(
    tmp_path: Path, job: SmallJob, at: Any, refusal: tuple[int, str], words: str
) -> None:
    with trainer_cluster() as cluster:
        at(cluster).refusal = refusal
        with pytest.raises(BadInputError, match=words):
            run("train_reward_model", job, settings_of(tmp_path), 1)


def test_a_cluster_without_the_runtime_or_without_a_cluster(
    tmp_path: Path, job: SmallJob, at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trainer_cluster() as cluster:
        at(cluster)
        with pytest.raises(BadInputError, match=r"runtime mine: .* 404: no runtime mine; install Kubeflow Trainer"):
            run("train_reward_model", job, settings_of(tmp_path, runtime="mine"), 1)
        with pytest.raises(BadInputError, match=r"distributed\.node\.image: not set"):
            run("train_reward_model", job, settings_of(tmp_path, node={}), 1)
    with pytest.raises(BadInputError, match="the Kubernetes API does not answer"):
        run("train_reward_model", job, settings_of(tmp_path), 1)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(BadInputError, match=r"no Kubernetes cluster is known here .* set distributed\.nodes: 1"):
        run("train_reward_model", job, settings_of(tmp_path), 1)


def test_an_exchange_that_cannot_be_written(tmp_path: Path, job: SmallJob, at: Any) -> None:
    (tmp_path / "file").write_text("")
    with trainer_cluster() as cluster:
        at(cluster)
        with pytest.raises(BadInputError, match=r"distributed\.exchange: file://.*/file/.* cannot be written"):
            run("train_reward_model", job, settings_of(tmp_path, exchange=f"file://{tmp_path}/file"), 1)
        assert not cluster.made


def test_a_short_outage_of_the_api_is_waited_out_and_a_long_one_is_not(tmp_path: Path, job: SmallJob, at: Any) -> None:
    def play(cluster: Cluster, name: str) -> None:
        time.sleep(0.1)
        cluster.away = True
        time.sleep(0.3)
        cluster.away = False
        complete(tmp_path)(cluster, name)

    with trainer_cluster(play) as cluster:
        at(cluster)
        run("train_reward_model", job, settings_of(tmp_path), 1)
        cluster.play = lambda cluster, name: setattr(cluster, "away", True)
        with pytest.raises(BadInputError, match="the Kubernetes API answers 503: the API is away"):
            run("train_reward_model", job, settings_of(tmp_path, outage_minutes=0.005), 1)
