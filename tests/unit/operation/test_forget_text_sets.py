"""What was forgotten of prompts and demonstrations is in no copy of them, and whoever may have learned it is named."""

import json
from pathlib import Path

import polars as pl
import pytest

from rewardloop.config import ClaimSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.text_sets import keep_text_set, read_text_set
from rewardloop.operation.claims import Claim, Wanted, take
from rewardloop.operation.forget import Subject
from rewardloop.operation.forget_batches import parquet
from rewardloop.records import prompt_key, text_digest
from rewardloop.tracking.connection import connect
from rewardloop.training.references import REFERENCES
from tests.forgetting import Place, fill, held, settings_of, write_rows
from tests.unit.tracking.versions import plant

PROMPT = "What did my neighbour Anna Smith say to you about her illness?"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return fill(tmp_path, settings_of(tmp_path), connect(None, tmp_path / "tracking", 5))


def _answers(prompt: str) -> pl.DataFrame:
    row = {
        "prompt": [{"role": "user", "content": prompt}], "key": "k", "split": "train", "sample": 0, "prompt_ids": [1],
        "response_ids": [2], "response": "It is said.", "finished": True, "logprob": -1.0, "tokens": 1,
    }  # fmt: skip
    return pl.DataFrame([row], schema=REFERENCES)


def _keep(place: Place, prompts: list[str]) -> str:
    """A text set of prompts in the store, and answers to each."""
    path = write_rows(place.folder / "prompts.jsonl", [{"prompt": prompt} for prompt in prompts])
    for prompt in prompts:
        place.store.storage.write(f"references/{'ab' * 32}/{text_digest(prompt)}.parquet", parquet(_answers(prompt)))
    return f"texts/{keep_text_set(place.store.storage, read_text_set(path, 'prompts'))}.parquet"


@pytest.mark.parametrize("form", ["text", "prompt"])
def test_a_prompt_to_align_on_goes_with_the_answers_to_it(place: Place, form: str) -> None:
    hit, other = _keep(place, [PROMPT]), _keep(place, ["Anything else?"])
    policies = [
        plant(place.tracking_uri, place.settings.policy_name, reward_model=f"models:/{place.settings.model_name}/{n}")
        for n in (1, 2)
    ]
    home = Path(place.settings.home)
    files = {
        home / "pipelines" / "retrain-and-align-1" / "generate-references" / "references" / "it.json": PROMPT,
        home / "pipelines" / "retrain-1" / "load-corpus" / "corpus" / "it.json": "{}",
        home / "pipelines" / ".kfp_cache" / "one.json": f"{home.resolve()}/pipelines/retrain-and-align-1/x",
        home / "work" / "align_policy" / "some" / "state.pt": "weights",
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    digest = text_digest(PROMPT) if form == "text" else prompt_key([("user", PROMPT)])
    subject = Subject(texts=frozenset({digest}))
    (would,) = place.forget(subject, dry_run=True)
    (report,) = place.forget(subject)

    assert held(place.folder / "store", PROMPT) == held(home, PROMPT) == []
    answers = f"references/{'ab' * 32}/{text_digest(PROMPT)}.parquet"
    assert {hit, answers} <= set(report.places)
    assert {hit, answers} <= set(would.places)
    assert place.store.storage.exists(other)
    assert [path.name for path in sorted((home / "pipelines").iterdir())] == [".kfp_cache", "retrain-1"]
    assert list((home / "pipelines" / ".kfp_cache").iterdir()) == []
    assert not (home / "work" / "align_policy" / "some").exists()
    named = [f"models:/{place.settings.policy_name}/{version}" for version in policies]
    assert [line.split(": ")[0] for line in report.models] == [line.split(": ")[0] for line in would.models] == named
    assert all("may have" in line and hit in line for line in report.models)
    assert any("align.prompts" in line for line in report.remaining)
    assert any("MLflow runs of policies" in line for line in report.remaining)
    assert place.forget(subject)[0].sequence is None
    _keep(place, [PROMPT])  # the next run kept the user's file again
    assert place.forget(subject)[0].sequence == 2
    assert held(place.folder / "store", PROMPT) == []


def test_no_run_loses_its_prompts_while_it_is_at_work(place: Place) -> None:
    name = _keep(place, [PROMPT])
    corpus = place.store.current_corpus()
    place.store.write_corpus(corpus)
    wanted = Wanted(corpus=corpus.digest, config="f1" * 32, run_id="run-1", reason="a test")
    assert isinstance(take(place.store.storage, ClaimSettings(), wanted), Claim)
    subject = Subject(texts=frozenset({text_digest(PROMPT)}))
    with pytest.raises(BadInputError, match=r"run run-1: is under way"):
        place.forget(subject)
    assert place.store.storage.exists(name)
    place.forget(subject, despite=frozenset({"run-1"}))
    assert not place.store.storage.exists(name)


def test_answers_of_a_judge_are_named_where_only_the_hash_of_a_text_is_known(place: Place) -> None:
    never = "secret diary entry of a private person one two three"
    answers = Path(place.settings.home).resolve() / "judge" / "answers"
    (answers / "ab").mkdir(parents=True)
    (answers / "ab" / "abc.json").write_text(json.dumps({"text": f"It says: {never}\nVERDICT: TIE"}), encoding="utf-8")
    (report,) = place.forget(Subject(texts=frozenset({text_digest(never)})))
    assert [line for line in report.remaining if line.startswith(f"{answers}: ")]
    # A text that some batch holds is taken out of them.
    known = "Answer a to 3."
    (report,) = place.forget(Subject(texts=frozenset({text_digest(known)})))
    assert not [line for line in report.remaining if line.startswith(f"{answers}: ")]
