"""Where work is done: here, in several processes, on nodes; and what goes wrong in a process comes through."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rewardloop.config import DistributedSettings, load_settings
from rewardloop.errors import BadInputError
from rewardloop.training.align_job import AlignJob, _processes, run_alignment
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.fit import FitJob
from rewardloop.training.launch import on_nodes
from rewardloop.training.train_job_files import Exchange
from tests.object_store import serving_bucket
from tests.policies import settings_of

NODES = {"nodes": 2, "exchange": "s3://bucket/trainjobs"}


def spread(**fields: Any) -> DistributedSettings:
    return DistributedSettings.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"nodes": 2}, "nodes = 2 needs exchange"),
        (NODES | {"node": {"cache": True}}, r"node\.cache: nodes of a TrainJob have no such setting"),
        (NODES | {"node": {"accelerators": 4}}, "accelerators = 4, but accelerator names no resource"),
        (NODES | {"steps": ["train_sft"]}, "align_policy"),
        ({"processes": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spread(**fields)


def test_the_section_is_no_part_of_the_digest_of_a_configuration() -> None:
    one, two = (load_settings(Path("conf/smoke.yaml"), [f"distributed.processes={count}"]) for count in (1, 2))
    assert one.settings.distributed.processes == 1
    assert one.digest == two.digest


def test_which_steps_go_to_nodes() -> None:
    only = spread(**NODES, steps=["train_reward_model"])
    assert on_nodes("train_reward_model", only)
    assert not on_nodes("align_policy", only)
    assert not on_nodes("train_reward_model", spread(processes=4))


def test_processes_of_a_node() -> None:
    gpu = {"accelerator": "nvidia.com/gpu", "accelerators": 8}
    assert spread(**NODES).processes_per_node == 1
    assert spread(**NODES, node=gpu).processes_per_node == 8
    assert spread(**NODES, node=gpu, processes=2).processes_per_node == 2


@pytest.mark.parametrize(
    ("fields", "gpus", "expected"),
    [
        ({}, 0, 1),
        ({}, 4, 4),
        ({"prompts_per_update": 3}, 4, 3),  # nobody asked for four
        ({"device": "cpu"}, 4, 1),
        ({"reward_device": "cuda:1"}, 2, 1),
        ({"algorithm": "dpo"}, 4, 1),
    ],
)
def test_processes_of_an_alignment_that_nobody_set(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], gpus: int, expected: int
) -> None:
    monkeypatch.setattr("rewardloop.training.align_job.gpus", lambda: gpus)
    settings = settings_of(**{"device": "auto"} | fields)
    assert _processes(settings, spread()) == expected
    # What somebody set holds, but where an algorithm knows one process only.
    assert _processes(settings, spread(processes=7)) == (1 if settings.algorithm == "dpo" else 7)


def test_an_algorithm_of_trl_is_refused_on_nodes() -> None:
    sections = {"align": settings_of(algorithm="dpo").model_dump(mode="json"), "distributed": NODES}
    job = AlignJob("", "", "", "", "", json.dumps(sections), "", "")
    with pytest.raises(BadInputError, match=r"align\.algorithm: dpo runs in one process; take align_policy out of"):
        run_alignment(job)


def test_what_a_node_is_given(tmp_path: Path, tiny_base: str) -> None:
    (tmp_path / "data").mkdir()
    job = FitJob(str(tmp_path / "data"), tiny_base, "{}", "c", "o")
    assert job.inputs() == {"preferences": str(tmp_path / "data"), "start": tiny_base}
    assert replace(job, start="org/model").inputs().keys() == {"preferences"}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket that S3's own protocol serves, on this machine."""
    with serving_bucket("trainjobs") as url:
        yield url


class TestExchange:
    """Through an object store, as between a step and nodes on other machines."""

    def test_inputs_go_and_outputs_come_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str
    ) -> None:
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "node"))
        (tmp_path / "node").mkdir()
        (tmp_path / "data" / "deep").mkdir(parents=True)
        (tmp_path / "data" / "deep" / "rows.bin").write_bytes(b"\0rows")
        job = FitJob(str(tmp_path / "data"), "org/model", "{}", "here/checkpoints", str(tmp_path / "out"))
        exchange = Exchange(f"{bucket}/work")
        exchange.send("train_reward_model", job)
        exchange.fs.pipe_file("trainjobs/work/checkpoints/checkpoint.pt", b"so far")

        node = Exchange(f"{bucket}/work")
        taken = node.take()
        assert (taken.step, taken.carried) == ("train_reward_model", True)
        assert (Path(taken.fields["preferences"]) / "deep" / "rows.bin").read_bytes() == b"\0rows"
        assert taken.fields["preferences"].startswith(str(tmp_path / "node"))
        assert taken.fields["start"] == "org/model"
        assert taken.fields["checkpoints"] == f"{bucket}/work/checkpoints"
        assert node.take() == taken  # a second process of the node
        made = Path(taken.fields["output"]) / "model" / "weights"
        made.parent.mkdir(parents=True)
        made.write_bytes(b"weights")
        node.give(taken.fields["output"])
        node.give_error("too long")

        exchange.fetch(tmp_path / "out")
        assert (tmp_path / "out" / "model" / "weights").read_bytes() == b"weights"
        assert exchange.error() == "too long"
        # The next try begins with the checkpoints and without the rest.
        exchange.send("train_reward_model", job)
        assert exchange.error() is None
        exchange.fetch(tmp_path / "again")
        assert not (tmp_path / "again").exists()
        assert exchange.fs.exists("trainjobs/work/checkpoints/checkpoint.pt")
        exchange.clear()
        assert not exchange.fs.exists("trainjobs/work")

    def test_a_bucket_that_is_not_there(self, tmp_path: Path, bucket: str) -> None:
        job = FitJob(str(tmp_path), "org/model", "{}", "here/checkpoints", str(tmp_path / "out"))
        with pytest.raises(
            BadInputError, match=r"distributed\.exchange: s3://absent/work cannot be written: .* not exist"
        ):
            Exchange("s3://absent/work").send("train_reward_model", job)

    def test_a_checkpoint_in_an_object_store(self, bucket: str) -> None:
        folder = CheckpointFolder.at(f"{bucket}/checkpoints")
        assert folder.load({"a": 1}) is None
        folder.save({"about": {"a": 1}, "step": 3})
        assert CheckpointFolder.at(f"{bucket}/checkpoints").load({"a": 1}) == {"about": {"a": 1}, "step": 3}
        with pytest.raises(BadInputError, match=r"s3://trainjobs/checkpoints/checkpoint\.pt: .* a was 1, is 2"):
            folder.load({"a": 2})
        folder.clear()
        assert folder.load({"a": 1}) is None
