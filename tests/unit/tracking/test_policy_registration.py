"""A blessed policy is registered beside its reward model, once, and is what was evaluated when it is loaded back."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from rewardloop.config import GenerationSettings
from rewardloop.errors import RewardloopError
from rewardloop.evidence import PolicyVerdict, RegistrationEvidence
from rewardloop.modeling.generation import generate
from rewardloop.modeling.policy import load_policy, policy_digest
from rewardloop.steps.register_models import register_models
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.flavors import POLICY
from rewardloop.tracking.history import History
from rewardloop.tracking.manifest import write_manifest
from rewardloop.tracking.policy_registration import register_policy
from rewardloop.tracking.pyfunc_policy import ServedPolicy
from rewardloop.tracking.registry import open_version
from tests import run_folders
from tests.aligned import Aligned, make_aligned, produced, read
from tests.registered import Candidate, bless, make_candidate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    return make_aligned(tmp_path_factory.getbasetemp() / "aligned")


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return connect(None, tmp_path_factory.mktemp("tracking"), 5)


@pytest.fixture
def candidate(tiny_base: str, tracking_uri: str, tmp_path: Path, made: Aligned) -> Candidate:
    make_candidate(tmp_path, tiny_base, tracking_uri)
    candidate = Candidate(tmp_path, tracking_uri, organization=f"org-{abs(hash(tmp_path)):x}")
    bless_both(candidate, made.policy)
    return candidate


def bless_both(candidate: Candidate, policy: Path, *, blessed: bool = True, **changes: Any) -> None:
    verdict = run_folders.policy_verdict(over_optimized=not blessed)
    bless(candidate, policy=verdict.model_copy(update={"candidate": policy_digest(policy)}), **changes)
    evidence = candidate.folder / "blessing" / "evidence" / "policy_evaluation.json"
    evidence.parent.mkdir(exist_ok=True)
    evidence.write_text(run_folders.policy_evaluation().model_dump_json())


def register(candidate: Candidate, policy: Path, output: str = "registration", store: str = "") -> RegistrationEvidence:
    register_models(
        reward_model=candidate.folder / "reward_model",
        evaluation=candidate.folder / "evaluation",
        blessing=candidate.folder / "blessing",
        policy=policy,
        store=store or candidate.store,
        settings=json.dumps(
            {"organization": candidate.organization, "threshold": {"alpha": 0.05, "delta": 0.1}, "promotion": {}}
        ),
        tracking_uri=candidate.tracking_uri,
        corpus_digest="corpus-1",
        config_digest="config-1",
        registration=candidate.folder / output,
    )
    evidence: RegistrationEvidence = read(RegistrationEvidence, candidate.folder / output, "registration")
    return evidence


def policy_name(candidate: Candidate) -> str:
    return f"{candidate.organization}-policy"


def registered(candidate: Candidate) -> set[str]:
    names = {model.name for model in MlflowClient(candidate.tracking_uri).search_registered_models()}
    return names & {candidate.name, policy_name(candidate)}


def test_both_are_registered_once(candidate: Candidate, made: Aligned, tiny_base: str) -> None:
    evidence = register(candidate, made.policy)
    assert evidence.policy is not None
    reward_model, name = f"models:/{candidate.name}/1", policy_name(candidate)
    assert (evidence.name, evidence.version) == (candidate.name, "1")
    assert (evidence.policy.name, evidence.policy.version, evidence.policy.previous) == (name, "1", None)
    assert evidence.policy.reward_model == reward_model
    said = produced(candidate.folder / "registration", "register_models")
    assert said.endswith(f"champion, threshold 0.412; {name} version 1")

    client = MlflowClient(candidate.tracking_uri)
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert version.tags["reward_model"] == reward_model
    assert version.tags["policy_digest"] == policy_digest(made.policy)
    assert version.tags["manifest_digest"] == evidence.policy.manifest_digest
    assert (version.tags["corpus_digest"], version.tags["config_digest"]) == ("corpus-1", "config-1")
    measured = run_folders.policy_evaluation()
    assert float(version.tags["reward_gain"]) == measured.reward.difference.value
    assert float(version.tags["kl"]) == measured.kl.value
    assert float(version.tags["second_judge_win_rate"]) == measured.judges[1].win_rate.value
    aliases = client.get_registered_model(name).aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {"candidate": "1", "champion": "1"}
    for model in (candidate.name, name):
        (record,) = History(Storage.open(candidate.store), model).records()
        assert (record.version, record.previous) == ("1", None)

    # The adapter travels, its base is named; what came with the folder does not.
    with open_version(f"models:/{name}/1", candidate.tracking_uri, POLICY) as (folder, _):
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert files == {
            "policy.json",
            "parity.json",
            "manifest.json",
            "adapter/adapter_config.json",
            "adapter/adapter_model.safetensors",
        }
        everything = {path.suffix for path in folder.parents[1].rglob("*") if path.is_file()}
    assert not everything & {".pkl", ".pickle", ".bin", ".pt"}

    assert register(candidate, made.policy, "again") == evidence
    assert len(client.search_model_versions(f"name = '{name}'")) == 1
    assert len(History(Storage.open(candidate.store), name).records()) == 1
    # Killed between the registry and the history: the second try completes the same version.
    late = register(candidate, made.policy, "late", store=str(candidate.folder / "another store"))
    assert late.policy is not None
    assert late.policy.version == "1"

    # The same policy for the next reward model is another version.
    second = Candidate(candidate.folder / "second", candidate.tracking_uri, candidate.organization)
    make_candidate(second.folder, tiny_base, candidate.tracking_uri, seed=1)
    bless_both(second, made.policy, champion="1")
    following = register(second, made.policy, store=candidate.store)
    assert following.policy is not None
    assert (following.policy.version, following.policy.previous) == ("2", "1")
    assert following.policy.reward_model == f"models:/{candidate.name}/2"
    aliases = client.get_registered_model(name).aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {
        "candidate": "2",
        "champion": "2",
        "previous": "1",
    }


def test_a_refused_policy_is_not_registered(candidate: Candidate, made: Aligned) -> None:
    bless_both(candidate, made.policy, blessed=False)
    evidence = register(candidate, made.policy)
    assert (evidence.version, evidence.champion, evidence.policy) == ("1", True, None)
    assert registered(candidate) == {candidate.name}
    assert "policy" not in produced(candidate.folder / "registration", "register_models")


@pytest.mark.parametrize("file", ["policy.json", "adapter/adapter_model.safetensors"])
def test_another_policy_than_the_blessed_one(candidate: Candidate, made: Aligned, tmp_path: Path, file: str) -> None:
    changed = Path(shutil.copytree(made.policy, tmp_path / "policy"))
    (changed / file).write_bytes((changed / file).read_bytes() + b" ")
    with pytest.raises(
        RewardloopError, match=rf"this policy is {policy_digest(changed)[:12]}, but the blessing is for"
    ):
        register(candidate, changed)
    assert policy_name(candidate) not in registered(candidate)
    # The blessed one is registered when the step is tried again.
    assert register(candidate, made.policy, "again").policy is not None


def test_answers_that_cannot_be_repeated(candidate: Candidate, made: Aligned, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made.policy, tmp_path / "policy"))
    fixture = json.loads((other / "parity.json").read_text())
    fixture["logprobs"][2] += 1
    (other / "parity.json").write_text(json.dumps(fixture))
    with pytest.raises(RewardloopError, match=r"has another log-probability \(by 1\.00e\+00\)"):
        register(candidate, other)
    assert policy_name(candidate) not in registered(candidate)
    assert History(Storage.open(candidate.store), policy_name(candidate)).records() == []


def test_files_that_were_changed_in_the_registry(candidate: Candidate, made: Aligned) -> None:
    register(candidate, made.policy)
    uri = f"models:/{policy_name(candidate)}/1"
    with open_version(uri, candidate.tracking_uri, POLICY) as (folder, _):
        place = folder / "policy.json"
    place.write_text(place.read_text().replace('"temperature": 1.0', '"temperature": 9.0'))
    with (
        pytest.raises(RewardloopError, match=r"policy\.json"),
        open_version(uri, candidate.tracking_uri, POLICY),
    ):
        pass


def test_a_verdict_on_another_policy(made: Aligned, tracking_uri: str, tmp_path: Path) -> None:
    verdict = PolicyVerdict(blessed=True, candidate="0" * 64, checks=[], reasons=[])
    with pytest.raises(
        RewardloopError, match=r"the blessing is for 000000000000; evaluate this policy again\. It was not"
    ):
        register_policy(
            made.policy,
            verdict,
            name="nobody-policy",
            reward_model="models:/nobody-reward/1",
            store=str(tmp_path / "store"),
            tracking_uri=tracking_uri,
            tags={},
            measured=run_folders.policy_evaluation(),
        )


def test_mlflow_serves_the_policy(
    candidate: Candidate, made: Aligned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # the base is converted there
    register(candidate, made.policy)
    mlflow.set_tracking_uri(candidate.tracking_uri)
    served = mlflow.pyfunc.load_model(f"models:/{policy_name(candidate)}@champion")
    prompts = ["01 234", "a longer prompt than the other", "7"]
    answers = served.predict(pd.DataFrame({"prompt": prompts}, index=[5, 3, 9]))
    assert answers.columns.tolist() == ["response"]
    assert answers.index.tolist() == [5, 3, 9]
    assert all(isinstance(answer, str) for answer in answers["response"])
    with pytest.raises(MlflowException, match="prompt"):
        served.predict(pd.DataFrame({"question": ["a"]}))
    with pytest.raises(MlflowException, match=r"row 1: 'prompt' is ' '; expected a text"):
        served.predict(pd.DataFrame({"prompt": ["a", " "]}))

    # At a temperature of almost 0 there is one answer: that of the policy that was evaluated.
    inside = served.unwrap_python_model()
    inside.info["temperature"] = 1e-6
    policy = load_policy(made.policy, tmp_path / "cache")
    ids = [policy.prompt_ids([{"role": "user", "content": prompt}]) for prompt in prompts]
    found = generate(policy, ids, GenerationSettings(max_new_tokens=8, temperature=1e-6))
    expected = [policy.text(prompt, answer) for prompt, (answer,) in zip(ids, found, strict=True)]
    assert served.predict(pd.DataFrame({"prompt": prompts}))["response"].tolist() == expected


def test_a_bases_own_sampling_does_not_count(made: Aligned, tmp_path: Path) -> None:
    """Some bases come with penalties and cut-offs; the policy was aligned by temperature alone."""
    policy = load_policy(made.policy, tmp_path / "cache")
    base = Path(shutil.copytree(policy.tokenizer.name_or_path, tmp_path / "base"))
    shutil.copytree(made.policy, tmp_path / "policy")
    info = json.loads((made.policy / "policy.json").read_text()) | {"base": str(base), "temperature": 1e-6}
    (tmp_path / "policy" / "policy.json").write_text(json.dumps(info))
    write_manifest(tmp_path / "policy")
    answers = []
    for own in (
        {},
        {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "min_new_tokens": 8, "suppress_tokens": [5]},
    ):
        plain = json.loads((base / "generation_config.json").read_text())
        (base / "generation_config.json").write_text(json.dumps(plain | own))
        served = ServedPolicy()
        served.load_context(SimpleNamespace(artifacts={"policy": str(tmp_path / "policy")}))
        asked = pd.DataFrame({"prompt": [f"{number} {number}" for number in range(6)]})
        answers.append(served.predict(None, asked)["response"].tolist())
    assert answers[0] == answers[1]
    assert any(answers[0])
