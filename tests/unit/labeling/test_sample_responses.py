"""``rewardloop sample-responses``: different responses, models by their shares, and going on after a kill."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from rewardloop.cli.export_tasks import export_tasks
from rewardloop.cli.sample_responses import sample_responses
from rewardloop.errors import BadInputError
from rewardloop.labeling.response_file import alone, append_responses
from rewardloop.labeling.sampling import Asked, model_mix
from rewardloop.records import normalize_text


@pytest.fixture
def config(tmp_path: Path, tiny_base: str) -> Path:
    path = tmp_path / "rewardloop.yaml"
    content: dict[str, Any] = {
        "organization": "acme",
        "home": str(tmp_path / "home"),
        "store": {"url": str(tmp_path / "store")},
        "model": {"base": tiny_base},
        "labeling": {
            "models": [
                {"base": tiny_base, "temperature": 0.7, "share": 3},
                {"base": tiny_base, "temperature": 1.5, "share": 1},
            ],
            "max_new_tokens": 6,
            "prompts_at_once": 4,
        },
    }
    path.write_text(json.dumps(content))
    return path


def prompts(tmp_path: Path, count: int = 10) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(count)))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_responses_differ_and_models_have_their_shares(
    tmp_path: Path, config: Path, tiny_base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "responses.jsonl"
    sample_responses(prompts(tmp_path), output, 4, config)
    found = lines(output)
    assert [line["prompt"][0]["content"] for line in found] == [f"question {n}" for n in range(10)]
    for line in found:
        assert len({normalize_text(response["content"]) for response in line["responses"]}) == 4
    models = Counter(response["model"] for line in found for response in line["responses"])
    assert models == {f"{tiny_base} (temperature 0.7)": 30, f"{tiny_base} (temperature 1.5)": 10}
    assert "10 prompts, 0 of them answered before" in capsys.readouterr().out
    export_tasks("ranker", None, tmp_path / "tasks", config, None, responses=output, labelers=1)
    assert "10 rankings" in capsys.readouterr().out


def test_a_killed_run_goes_on_and_ends_with_the_same_file(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    asked = prompts(tmp_path)
    sample_responses(asked, whole, 3, config)
    content = whole.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    for cut in (0, 5, ends[1] + 7, ends[3], ends[8] + 1, len(content)):
        killed.write_bytes(content[:cut])
        sample_responses(asked, killed, 3, config)
        assert killed.read_bytes() == content
    assert "10 prompts, 10 of them answered before" in capsys.readouterr().out
    # More prompts at the end are answered; the others stay.
    sample_responses(prompts(tmp_path, 12), killed, 3, config)
    assert killed.read_bytes()[: ends[7]] == content[: ends[7]]
    assert len(lines(killed)) == 12


def test_a_file_of_other_settings_or_prompts_is_not_appended_to(tmp_path: Path, config: Path) -> None:
    output = tmp_path / "responses.jsonl"
    sample_responses(prompts(tmp_path, 2), output, 2, config)
    before = output.read_bytes()
    with pytest.raises(BadInputError, match="line 1 was sampled with other models or settings; name a new file"):
        sample_responses(prompts(tmp_path, 2), output, 3, config)
    with pytest.raises(BadInputError, match="line 1 was sampled with other models"):
        sample_responses(prompts(tmp_path, 2), output, 2, config, ["labeling.seed=1"])
    with pytest.raises(BadInputError, match="line 2 answers another prompt"):
        sample_responses(prompts(tmp_path, 1), output, 2, config)
    with pytest.raises(BadInputError, match="line 1 was not written by sample-responses"):
        sample_responses(tmp_path / "prompts.jsonl", tmp_path / "prompts.jsonl", 2, config)
    assert output.read_bytes() == before


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    output, home = tmp_path / "out.jsonl", tmp_path / "home"
    with alone(output, home):
        (lock,) = home.iterdir()
    with FileLock(lock), pytest.raises(BadInputError, match="another process is writing it"), alone(output, home):
        pass


def test_what_cannot_be_different_is_fewer_and_said(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    # So cold that every draw is the likeliest token again.
    cold = ["labeling.models=[{base: 'random:tiny', temperature: 0.00001}]", "labeling.max_new_tokens=2"]
    sample_responses(prompts(tmp_path, 3), output, 3, config, cold)
    assert [len(line["responses"]) <= 1 for line in lines(output)] == [True] * 3
    said = capsys.readouterr().out
    assert "3 prompts with fewer than 3 responses" in said
    assert "responses that were the same as another" in said or "empty responses" in said
    with pytest.raises(BadInputError, match=r"no prompt has responses .*fewer than two different responses: 3"):
        export_tasks("pairwise", None, tmp_path / "tasks", config, None, responses=output)


def test_a_prompt_that_does_not_fit_is_said_and_keeps_its_line(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "long " * 500}) + "\n" + json.dumps({"prompt": "short"}) + "\n")
    sample_responses(path, tmp_path / "out.jsonl", 2, config)
    assert [len(line["responses"]) for line in lines(tmp_path / "out.jsonl")] == [0, 2]
    assert "not used: 2 prompt and response do not fit the model's context" in capsys.readouterr().out


def test_a_models_share_holds_over_prompts_and_in_each() -> None:
    mixes = [model_mix([0.5, 0.3, 0.2], 4, 0, f"prompt {n}") for n in range(500)]
    assert {sum(mix) for mix in mixes} == {4}
    for place, share in enumerate((0.5, 0.3, 0.2)):
        counts = [mix[place] for mix in mixes]
        assert all(int(4 * share) <= count <= int(4 * share) + 1 for count in counts)
        assert sum(counts) / 2000 == pytest.approx(share, abs=0.02)


def test_a_failed_answer_leaves_whole_lines(tmp_path: Path) -> None:
    asked = [Asked([{"role": "user", "content": str(n)}], str(n)) for n in range(4)]

    def answer(some: Any) -> list[dict[str, Any]]:
        if some[0].key == "2":
            raise RuntimeError("the machine is gone")
        return [{"prompt": one.prompt, "responses": [], "sampled": "s"} for one in some]

    with pytest.raises(RuntimeError):
        append_responses(tmp_path / "out.jsonl", asked, answer, sampled="s", at_once=2)
    assert len(lines(tmp_path / "out.jsonl")) == 2


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("no/such/folder", "labeling.models: 'no/such/folder'"),
        ("models:/acme-policy", "expected models:/NAME/VERSION"),
    ],
)
def test_a_model_that_is_not_there_is_named(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch, model: str, words: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInputError, match=words):
        sample_responses(prompts(tmp_path), tmp_path / "out.jsonl", 2, config, None, [model])
    assert not (tmp_path / "out.jsonl").exists()
