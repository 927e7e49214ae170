"""The step with real files: what it writes, when it stops, how it goes on after a kill, and what it refuses."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoTokenizer

from rewardloop.config import AlignSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import AlignmentEvidence
from rewardloop.modeling.policy import PolicyInfo, load_policy, load_start
from rewardloop.modeling.policy_parity import check_policy_parity
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.modeling.scoring import RewardScorer
from rewardloop.training.checkpoint import CheckpointFolder
from rewardloop.training.reward_source import open_rewards
from rewardloop.training.rollouts import Readers, reference_answers, validate
from tests.aligned import Aligned, make_aligned, produced, read
from tests.preferences_tables import smoke_settings
from tests.served import app_of, serving

CALL = """
import sys
from pathlib import Path
from rewardloop.steps.align_policy import align_policy
start, references, reward_model, evaluation, settings, out = sys.argv[1:]
align_policy(
    start_policy=Path(start), references=Path(references), reward_model=Path(reward_model),
    evaluation=Path(evaluation), settings=settings, code_version="1", policy=Path(out),
)
"""
ONE_UPDATE = ("align.episodes=4", "align.prompts_per_update=2", "align.samples_per_prompt=2", "align.evaluations=1")
FREE = (
    "align.method=full",
    "align.schedule=constant",
    "align.prompts_per_update=8",
    "align.episodes=512",
    "align.evaluations=16",
    "align.stop.patience=100",
    "align.kl.beta=0",
    "align.missing_eos_penalty=20",
)
"""Nothing keeps the policy with its reference, and answers without an end cost more than anything else."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    return make_aligned(tmp_path_factory.getbasetemp() / "aligned")


def home() -> Path:
    return Path(os.environ["REWARDLOOP_HOME"])


def settings_of(*overrides: str) -> AlignSettings:
    settings = smoke_settings(*overrides).align
    assert settings is not None
    return settings


def with_template(folder: Path, template: str) -> Path:
    """The tokenizer in ``folder`` takes on a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def test_ppo_writes_the_policy_and_how_it_came_to_be(made: Aligned) -> None:
    evidence = read(AlignmentEvidence, made.policy, "alignment")
    info = PolicyInfo.read(made.policy)
    assert info == PolicyInfo(
        base="random:tiny",
        start="base",
        trained="adapter",
        plain_text=True,
        temperature=1.0,
        max_new_tokens=8,
        reward_model=weights_digest(made.reward_model / "model"),
        scored="text",
    )
    files = {str(path.relative_to(made.policy)) for path in made.policy.rglob("*") if path.is_file()}
    own = {"policy.json", "parity.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert {name for name in files if not name.startswith(("evidence/", "steps/"))} == own
    # Nothing of this machine is in it.
    assert json.loads((made.policy / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    assert check_policy_parity(made.policy, home() / "base-models", where="here") < 1e-4

    assert (evidence.algorithm, evidence.method, evidence.base, evidence.start) == (
        "ppo",
        "lora",
        "random:tiny",
        "base",
    )
    assert (evidence.episodes, evidence.updates, evidence.stopped) == (64, 4, "")
    assert evidence.resumed_from_update is None
    assert evidence.reward_model == info.reward_model
    assert evidence.value == "a head on the policy's trunk"
    assert 0 < evidence.trained_parameters < evidence.parameters
    references = pl.read_parquet(made.references / "references.parquet")
    assert evidence.prompts == references.filter(split="train")["key"].n_unique() == 16
    assert [point.update for point in evidence.curve] == [1, 2, 3, 4]
    assert [point.episodes for point in evidence.curve] == [16, 32, 48, 64]
    assert sum(round(point.length * 16) for point in evidence.curve) == evidence.tokens
    assert all(point.optimizer_steps == 8 for point in evidence.curve)
    assert abs(evidence.curve[0].kl) < 0.01  # the first answers are the reference's own
    assert [point.update for point in evidence.validation] == [0, 4]
    assert evidence.best_update in (0, 4)
    assert {sample.update for sample in evidence.samples} == {0, 4}
    assert evidence.seconds > evidence.generation_seconds > 0
    assert produced(made.policy, "align_policy").startswith("64 episodes in 4 updates, reward ")


def test_the_policy_gets_better(made: Aligned, tmp_path: Path) -> None:
    """Letters behind the digits: as many prompts as there are, and nothing but the reward counts."""
    overrides = (*FREE, "align.learning_rate=1e-2", "align.kl.budget=1000", "align.missing_eos_penalty=0")
    evidence = made.align(tmp_path / "out", *overrides, "align.samples_per_prompt=8", "align.episodes=640")
    first, *_, last = evidence.validation
    assert last.reward > first.reward + 0.15
    assert sum(point.reward for point in evidence.curve[-3:]) / 3 > evidence.curve[0].reward + 0.15
    assert last.kl > 1
    assert evidence.best_update > 0
    assert {path.name for path in (tmp_path / "out" / "model").iterdir()} >= {"model.safetensors", "tokenizer.json"}
    assert not (tmp_path / "out" / "adapter").exists()
    assert check_policy_parity(tmp_path / "out", home() / "base-models", where="here") < 1e-4
    # A checkpoint's work is done when the policy is written.
    assert not list(home().rglob("checkpoint.pt"))


@pytest.mark.parametrize(
    ("rate", "budget", "reason"),
    [
        # Short answers become empty ones: which limit is reached first is rounding's choice, another on each processor.
        (
            "1e-2",
            "1000",
            r"tokens on average, the reference's 7\.\d: less than align\.stop\.min_length_share = 0\.5 of that$"
            r"|^\d+% of the answers are empty$",
        ),
        ("3e-2", "8", r"nats, beyond align\.kl\.budget = 8$"),
    ],
)
def test_a_policy_that_collapses_is_stopped_at_its_best(
    made: Aligned, tmp_path: Path, rate: str, budget: str, reason: str
) -> None:
    overrides = (
        *FREE,
        f"align.learning_rate={rate}",
        f"align.kl.budget={budget}",
        "align.stop.min_length_share=0.5",
    )
    evidence = made.align(tmp_path / "out", *overrides)
    assert re.search(reason, evidence.stopped)
    assert produced(tmp_path / "out", "align_policy").endswith(f", stopped: {evidence.stopped}")
    assert 0 < evidence.updates < 16
    # Nothing was learnt from the answers that showed it.
    assert len(evidence.curve) == evidence.updates
    within = [point for point in evidence.validation if point.within_budget]
    best = max(within, key=lambda point: point.reward)
    assert evidence.best_update == best.update
    if budget == "8":
        assert best.update < evidence.updates
    # The weights are those that were best: asked again, they answer as they did then.
    settings = settings_of(*overrides)
    loaded = load_policy(tmp_path / "out", home() / "base-models")
    reference = load_start(made.start, home() / "base-models")
    rewards, _ = open_rewards(settings, made.reward_model, made.evaluation)
    references = pl.read_parquet(made.references / "references.parquet")
    prompts = reference_answers(references, "validation", rewards).prompts
    again, _ = validate(Readers(loaded, settings, reference), prompts, rewards, update=best.update)
    assert again.reward == pytest.approx(best.reward, abs=1e-4)
    assert again.kl == pytest.approx(best.kl, abs=1e-2)


@pytest.mark.timeout(900)  # three trainings, on a machine that may have other work
def test_alignment_goes_on_after_a_kill(made: Aligned, tmp_path: Path) -> None:
    """SIGKILL in the middle, the same call again in another output folder: the weights of an undisturbed run."""
    overrides = (
        "align.episodes=96",
        "align.prompts_per_update=4",
        "align.samples_per_prompt=2",
        "align.checkpoints=12",
        "align.learning_rate=1e-2",
    )
    folders = [str(folder) for folder in (made.start, made.references, made.reward_model, made.evaluation)]
    settings = smoke_settings(*overrides).section("align")
    process = subprocess.Popen([sys.executable, "-c", CALL, *folders, settings, str(tmp_path / "killed")])
    deadline = time.monotonic() + 400
    while not list(home().rglob("checkpoint.pt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "policy.json").exists()

    resumed = made.align(tmp_path / "resumed", *overrides)
    assert resumed.resumed_from_update is not None
    assert 0 < resumed.resumed_from_update < resumed.updates == 12
    undisturbed = made.align(tmp_path / "undisturbed", *overrides)
    assert undisturbed.resumed_from_update is None
    assert weights_digest(tmp_path / "resumed" / "adapter") == weights_digest(tmp_path / "undisturbed" / "adapter")
    changing = {"tokens_per_second"}
    assert [point.model_dump(exclude=changing) for point in resumed.curve] == [
        point.model_dump(exclude=changing) for point in undisturbed.curve
    ]
    assert resumed.validation == undisturbed.validation
    assert resumed.tokens == undisturbed.tokens


def test_how_the_work_is_done_may_change_on_the_way(
    made: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less memory, another device or other checkpoints: the same training goes on."""
    save, overrides = CheckpointFolder.save, [*ONE_UPDATE, "align.episodes=12"]

    def save_and_stop(folder: CheckpointFolder, state: dict[str, Any]) -> None:
        save(folder, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFolder, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        made.align(tmp_path / "out", *overrides, "align.device=auto")
    monkeypatch.setattr(CheckpointFolder, "save", save)
    changed = ("align.device=cpu", "align.tokens_per_batch=64", "align.checkpoints=1", "align.prompts=elsewhere.jsonl")
    assert made.align(tmp_path / "again", *overrides, *changed).resumed_from_update == 1


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "dpo"])
def test_other_algorithms(made: Aligned, tmp_path: Path, algorithm: str) -> None:
    evidence = made.align(
        tmp_path / "out", f"align.algorithm={algorithm}", "align.episodes=32", "align.samples_per_prompt=4"
    )
    assert (evidence.algorithm, evidence.method, evidence.value) == (algorithm, "lora", "")
    assert evidence.episodes == 32
    assert evidence.updates == len(evidence.curve) > 0
    assert (evidence.prompts, evidence.stopped) == (16, "")
    assert [point.update for point in evidence.validation] == [0, evidence.updates]
    assert evidence.best_update == evidence.updates
    assert 0 < evidence.trained_parameters < evidence.parameters
    assert PolicyInfo.read(tmp_path / "out").trained == "adapter"
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in {".bin", ".pkl", ".pt"}]
    assert check_policy_parity(tmp_path / "out", home() / "base-models", where="here") < 1e-4


@pytest.mark.parametrize("setting", ["align.device=cuda", "align.reward_device=cuda:1"])
def test_a_gpu_that_is_not_there(made: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    name, _, device = setting.partition("=")
    with pytest.raises(BadInputError) as refused:
        made.align(tmp_path / "out", setting)
    assert str(refused.value).startswith(f"{name}: '{device}' is asked for, but this machine has no CUDA device(s)")
    # Nothing was begun.
    assert not (home() / "work").exists()
    assert not (tmp_path / "out" / "policy.json").exists()


def test_a_reward_model_with_another_chat_template(made: Aligned, tmp_path: Path) -> None:
    ours, theirs = (
        "{% for m in messages %}[{{ m.content }}]{% endfor %}",
        "{% for m in messages %}{{ m.content }}|{% endfor %}",
    )
    reward_model = Path(shutil.copytree(made.reward_model, tmp_path / "reward_model"))
    scoring = json.loads((reward_model / "scoring.json").read_text()) | {"template": "chat"}
    (reward_model / "scoring.json").write_text(json.dumps(scoring))
    with_template(reward_model / "model", theirs)
    base = Path(load_start(made.start, home() / "base-models").tokenizer.name_or_path)
    base = with_template(Path(shutil.copytree(base, tmp_path / "base")), ours)
    PolicyInfo(str(base), "base", plain_text=False, temperature=1.0, max_new_tokens=8).write(tmp_path / "start")
    other = replace(made, start=tmp_path / "start", reward_model=reward_model)
    chat = (*ONE_UPDATE, "align.plain_text=false")

    with pytest.raises(BadInputError, match=r"align\.policy: the policy's chat template is not the one"):
        other.align(tmp_path / "refused", *chat, "align.scored=response")
    assert not (home() / "work").exists()
    assert other.align(tmp_path / "text", *chat, "align.scored=text").scored == "text"
    # With the same template, or without any on one side, a response means the same to both.
    with_template(reward_model / "model", ours)
    assert other.align(tmp_path / "response", *chat, "align.scored=response").scored == "response"
    assert made.align(tmp_path / "plain", *ONE_UPDATE, "align.scored=response").scored == "response"


def test_a_reward_model_on_another_node(made: Aligned, tmp_path: Path) -> None:
    local = made.align(tmp_path / "local", *ONE_UPDATE)
    scorer, digest = RewardScorer.load(made.reward_model), weights_digest(made.reward_model / "model")
    with serving(app_of(scorer, digest)) as url:
        there = made.align(tmp_path / "there", *ONE_UPDATE, f"align.reward_url={url}")
        with pytest.raises(BadInputError, match=r"align\.ppo\.value: reward_model: .* is behind align\.reward_url"):
            made.align(tmp_path / "value", *ONE_UPDATE, f"align.reward_url={url}", "align.ppo.value=reward_model")
    assert (local.reward_place, there.reward_place) == ("cpu", url)
    assert there.reward_model == local.reward_model == digest
    # The scale is the evaluation's, which the server does not know. Here bfloat16 may score, there float32 does.
    assert there.validation[0].reward == pytest.approx(local.validation[0].reward, abs=0.05)
    assert there.curve[0].reward == pytest.approx(local.curve[0].reward, abs=0.05)
    assert there.curve[0].length == local.curve[0].length

    expected = rf"serves the reward model 000000000000; expected {digest[:12]}"
    with serving(app_of(scorer, "0" * 64)) as url, pytest.raises(BadInputError, match=expected):
        made.align(tmp_path / "wrong", *ONE_UPDATE, f"align.reward_url={url}")
    with pytest.raises(BadInputError, match=r"align\.reward_url: http://127\.0\.0\.1:9: no reward model answers"):
        made.align(tmp_path / "nobody", *ONE_UPDATE, "align.reward_url=http://127.0.0.1:9")


def test_a_reward_model_that_was_not_evaluated(made: Aligned, tmp_path: Path) -> None:
    unscaled = replace(made, evaluation=made.reward_model)
    with pytest.raises(
        BadInputError, match=r"no scale yet \(raw_mean, raw_spread in scoring\.json\): evaluate it first"
    ):
        unscaled.align(tmp_path / "out", *ONE_UPDATE)
