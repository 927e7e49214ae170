"""The step with real files: when it fine-tunes, on what, and what it must not learn from."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import AutoTokenizer

from rewardloop.config import SftSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import SftEvidence
from rewardloop.feedback.text_sets import keep_text_set, read_text_set
from rewardloop.modeling.policy import PolicyInfo, load_start
from rewardloop.steps.train_sft import train_sft
from rewardloop.storage import Storage
from rewardloop.tables import ITEMS, PAIRS
from rewardloop.training.demonstrations import (
    HELD_OUT,
    NO_PROMPT,
    NOT_ACCEPTABLE,
    NOT_PREFERRED,
    RL_PROMPT,
    TOO_MANY,
    preferred_responses,
    select,
)

ALIGN = {"prompts": "prompts.jsonl", "generation": {"temperature": 0.9, "max_new_tokens": 12}}


def write_tables(folder: Path, groups: list[dict[str, Any]]) -> Path:
    """``groups``: prompt, responses as (text, rating or None, acceptable or None), split, and wins as {(a, b): p}."""
    items, pairs = [], []
    for number, group in enumerate(groups):
        first = len(items)
        for text, rating, acceptable in group["responses"]:
            prompt = [{"role": "user", "content": group["prompt"]}] if group["prompt"] else []
            items.append(
                {
                    "item": len(items),
                    "group": number,
                    "split": group.get("split", "train"),
                    "prompt": prompt,
                    "response": text,
                    "rating": rating,
                    "acceptable": acceptable,
                }
            )
        for (a, b), p in group.get("wins", {}).items():
            split = group.get("split", "train")
            pairs.append({"split": split, "group": number, "a": first + a, "b": first + b, "p": p, "votes": 1.0})
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(items, schema=ITEMS).write_parquet(folder / "items.parquet")
    pl.DataFrame(pairs, schema=PAIRS).write_parquet(folder / "pairs.parquet")
    return folder


def rated(prompt: str, split: str = "train") -> dict[str, Any]:
    return {
        "prompt": prompt,
        "split": split,
        "responses": [(f" worse {prompt}", 1.0, None), (f" better {prompt}", 4.0, None)],
    }


def write_texts(path: Path, store: Path, kind: Any, rows: list[dict[str, str]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return keep_text_set(Storage.open(store.as_uri()), read_text_set(path, kind))


def run(
    tmp_path: Path, preferences: Path, *, base: str = "random:tiny", sets: dict[str, str] | None = None, **sft: Any
) -> tuple[PolicyInfo, SftEvidence]:
    (tmp_path / "store").mkdir(exist_ok=True)
    train_sft(
        preferences=preferences,
        store=(tmp_path / "store").as_uri(),
        settings=json.dumps({"model": {"base": base}, "sft": {"method": "full", "epochs": 2} | sft, "align": ALIGN}),
        text_sets=json.dumps({"demonstrations": "", "prompts": ""} | (sets or {})),
        code_version="1",
        start_policy=tmp_path / "start",
    )
    evidence = SftEvidence.model_validate_json((tmp_path / "start" / "evidence" / "sft.json").read_bytes())
    return PolicyInfo.read(tmp_path / "start"), evidence


def produced(tmp_path: Path) -> str:
    return str(json.loads((tmp_path / "start" / "steps" / "train_sft.json").read_text())["produced"])


def test_a_base_without_chat_template_is_fine_tuned(tmp_path: Path) -> None:
    preferences = write_tables(tmp_path / "preferences", [rated(f"film {i}") for i in range(12)])
    info, evidence = run(tmp_path, preferences)
    assert info == PolicyInfo("random:tiny", "sft", plain_text=True, temperature=0.9, max_new_tokens=12)
    assert (evidence.start, evidence.examples, evidence.left_out) == ("sft", 11, {})
    assert evidence.steps == 4
    assert evidence.validation_loss is not None
    assert evidence.validation_loss < 5.7  # ln 258 is 5.55; a random model is a little above
    assert "has no chat template" in evidence.reason
    assert evidence.source == "the preferred responses of the training split; 1 of them for the validation loss only"
    assert produced(tmp_path).startswith("11 demonstrations in 4 steps, validation loss ")
    policy = load_start(tmp_path / "start", tmp_path / "home" / "base-models")
    assert policy.plain_text
    # Checkpoints are gone, their work is done.
    assert not list((tmp_path / "home" / "work").rglob("checkpoint-*"))


def test_a_base_with_chat_template_is_left_as_it_is(tmp_path: Path, tiny_base: str) -> None:
    base = tmp_path / "chatty"
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(base)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(Path(tiny_base) / name, base / name)
    preferences = write_tables(tmp_path / "preferences", [rated("film")])
    info, evidence = run(tmp_path, preferences, base=str(base))
    assert info == PolicyInfo(str(base), "base", plain_text=False, temperature=0.9, max_new_tokens=12)
    assert evidence == SftEvidence(start="base", base=str(base), reason=evidence.reason)
    assert "has a chat template" in evidence.reason
    assert produced(tmp_path) == f"starts from the base: {evidence.reason}"
    assert not (tmp_path / "start" / "model").exists()


def test_never_means_never(tmp_path: Path) -> None:
    preferences = write_tables(tmp_path / "preferences", [rated("film")])
    info, evidence = run(tmp_path, preferences, when="never")
    assert (info.start, evidence.start, evidence.reason) == ("base", "base", "sft.when: never")


def test_preferred_responses_are_the_best_acceptable_ones(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [
        {"prompt": "rated", "responses": [("mid", 2.0, None), ("best", 5.0, None), ("low", 1.0, None)]},
        {"prompt": "best not acceptable", "responses": [("shown", 3.0, True), ("x", 5.0, False), ("y", 1.0, None)]},
        {"prompt": "compared", "responses": [("a", None, None), ("b", None, None), ("c", None, None)],
         "wins": {(0, 1): 0.2, (0, 2): 0.9, (1, 2): 0.7}},
        {"prompt": "a tie", "responses": [("a", None, None), ("b", None, None)], "wins": {(0, 1): 0.5}},
        {"prompt": "equal ratings", "responses": [("a", 3.0, None), ("b", 3.0, None)]},
        {"prompt": "none to show", "responses": [("a", 3.0, False), ("b", 2.0, False)]},
        {"prompt": "the loser only", "responses": [("a", 3.0, False), ("b", 2.0, None)]},
        {"prompt": "", "responses": [("a text", 1.0, None), ("a better text", 2.0, None)]},
        {"prompt": "held out", "split": "test", "responses": [("a", 3.0, None), ("b", 2.0, None)]},
    ]  # fmt: skip
    folder = write_tables(tmp_path, cases)
    found, left_out = preferred_responses(
        pl.read_parquet(folder / "items.parquet"), pl.read_parquet(folder / "pairs.parquet")
    )
    # b wins 0.8 and 0.7, a 0.2 and 0.9.
    assert found["response"].to_list() == ["best", "shown", "b", "a better text"]
    assert left_out == {NOT_ACCEPTABLE: 1, NOT_PREFERRED: 3}


def test_held_out_and_aligned_prompts_are_never_learnt(tmp_path: Path) -> None:
    """Prompts that differ in case and spaces are the same prompt."""
    splits = ["train", "validation", "calibration", "test", "golden"]
    preferences = write_tables(tmp_path / "preferences", [rated(f"film {split}", split) for split in splits])
    demonstrations = [{"prompt": f"Film  {split}", "response": "x"} for split in splits]
    demonstrations += [{"prompt": f"new {i}", "response": "abc"} for i in range(20)]
    sets = {
        "demonstrations": write_texts(tmp_path / "d.jsonl", tmp_path / "store", "demonstrations", demonstrations),
        "prompts": write_texts(
            tmp_path / "p.jsonl", tmp_path / "store", "prompts", [{"prompt": "NEW 3"}, {"prompt": "film test"}]
        ),
    }
    _, evidence = run(tmp_path, preferences, sets=sets, max_examples=15, demonstrations="d.jsonl")
    # "Film  train" and 19 of the new ones are left; 2 of these 20 measure.
    assert evidence.left_out == {HELD_OUT: 4, RL_PROMPT: 1, TOO_MANY: 3}
    assert evidence.examples == 15
    assert evidence.source == "the file d.jsonl; 2 of them for the validation loss only"


def test_demonstrations_that_are_too_long_are_counted(tmp_path: Path) -> None:
    """A byte a token: prompt, space and response, end."""
    preferences = write_tables(tmp_path / "preferences", [rated(f"film {i}") for i in range(11)])
    _, evidence = run(tmp_path, preferences, max_length=6 + len(" better film 0") + 1)
    assert evidence.left_out == {"longer than sft.max_length": 1}  # film 10
    assert evidence.examples in (9, 10)  # film 10 may be the one that measures


def test_demonstrations_of_one_prompt_stay_together(tmp_path: Path) -> None:
    folder = write_tables(tmp_path, [rated("film")])
    items = pl.read_parquet(folder / "items.parquet")
    rows = [
        {"prompt": [{"role": "user", "content": f"p{i % 30}"}], "response": f"r{i}", "key": f"k{i % 30}"}
        for i in range(90)
    ] + [{"prompt": [], "response": f"text {i}", "key": "none"} for i in range(10)]
    frame = pl.DataFrame(rows, schema_overrides={"prompt": ITEMS["prompt"]})
    chosen = select(frame, items, SftSettings(), rl_prompts=["k0"], plain_text=True)
    prompted = [part.filter(pl.col("prompt").list.len() > 0) for part in (chosen.train, chosen.validation)]
    assert not set(prompted[0]["key"]) & set(prompted[1]["key"])
    # 29 prompts and 10 texts: 3 units measure.
    assert len(chosen.validation.select("key", "response").unique()) == len(chosen.validation) > 0
    assert len(chosen.train) + len(chosen.validation) == 97
    assert chosen.left_out == {RL_PROMPT: 3}
    asked = select(frame, items, SftSettings(), rl_prompts=[], plain_text=False)
    assert asked.left_out == {NO_PROMPT: 10}
    again = select(frame, items, SftSettings(), rl_prompts=["k0"], plain_text=True)
    assert again.train.equals(chosen.train)
    other = select(frame, items, SftSettings(seed=1), rl_prompts=["k0"], plain_text=True)
    assert not other.validation.equals(chosen.validation)


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    tie = {"prompt": "film", "responses": [("a", 1.0, None), ("b", 1.0, None)]}
    preferences = write_tables(tmp_path / "preferences", [tie])
    with pytest.raises(BadInputError, match=r"sft\.demonstrations: none, .* set sft\.when to never"):
        run(tmp_path, preferences)
    held_out = write_tables(tmp_path / "held-out", [rated("film"), rated("film 2", "test")])
    digest = write_texts(
        tmp_path / "d.jsonl", tmp_path / "store", "demonstrations", [{"prompt": "film 2", "response": "x"}]
    )
    with pytest.raises(BadInputError, match=r"1 demonstrations, of which 0 can be learnt from \(its prompt is in a"):
        run(tmp_path, held_out, sets={"demonstrations": digest}, when="always")
