"""``rewardloop judge`` from the command line to the store, and from there into preferences."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rewardloop.cli.main import app
from rewardloop.errors import BadInputError, RewardloopError
from rewardloop.feedback.store import FeedbackStore
from tests.judges import JudgeServer, Reply, answers_of, completion, failure, judging

CONFIG = Path("conf/smoke.yaml").resolve()
SECRET = "sk-0123456789-secret"


def run(folder: Path, *arguments: str, **settings: Any) -> Result:
    named = {"home": folder / "home", "store.url": folder / "store"} | settings
    overrides = [part for name, value in named.items() for part in ("--set", f"{name}={value}")]
    return CliRunner().invoke(app, ["judge", "-c", str(CONFIG), *arguments, *overrides], catch_exceptions=False)


def of(server: JudgeServer) -> dict[str, Any]:
    return {"judge.url": server.url, "judge.model": "m", "judge.constitution": "Be lively."}


def answers(folder: Path, count: int, *, labeled: bool = False) -> Path:
    """Two answers each, of which the second is livelier; with labels of three people who think so too."""
    place = folder / "answers.jsonl"
    rows = []
    for number in range(count):
        texts = [f"calm {number}", f"lively {number}!"]
        row: dict[str, Any] = {"prompt": f"Q{number}", "responses": texts}
        if labeled:
            row = {
                "group_id": str(number),
                "prompt": [{"role": "user", "content": f"Q{number}"}],
                "responses": [{"response_id": name, "content": text} for name, text in zip("ab", texts, strict=True)],
                "labels": [
                    {"kind": "choice", "chosen": "b", "rejected": "a", "labeler": who} for who in ("ann", "ben", "cem")
                ],
            }
        rows.append(json.dumps(row))
    place.write_text("\n".join(rows) + "\n")
    return place


def test_labels_are_canonical_records_that_say_what_they_are(tmp_path: Path) -> None:
    with judging() as server:
        result = run(tmp_path, str(answers(tmp_path, 3)), "--output", str(tmp_path / "out.jsonl"), **of(server))
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    [label] = records[0]["labels"]
    assert re.fullmatch(r"judge:judge:[0-9a-f]{8}", label["labeler"])
    assert (label["labeler_kind"], label["chosen"]) == ("model", "1")
    assert f"labeler {label['labeler']} (in the store and in reports: l_" in result.stdout
    assert "asked 6 times (600 tokens read, 60 written), 0 answers were known" in result.stdout
    assert "3 of 3 groups labeled, 3 labels" in result.stdout
    assert "agreement with people is not known" in result.stdout
    assert "A vote counts 0.5 of a person's" in result.stdout


def test_house_made_columns_are_mapped(tmp_path: Path) -> None:
    file, out = tmp_path / "house.csv", tmp_path / "out.jsonl"
    file.write_text("question,one,two,better\nQ,calm,lively!,a\n")
    columns = "prompt=question,response_a=one,response_b=two,verdict=better"
    with judging() as server:
        run(tmp_path, str(file), "--format", "pairwise", "--map", columns, "--output", str(out), **of(server))
    [record] = [json.loads(line) for line in out.read_text().splitlines()]
    assert [response["content"] for response in record["responses"]] == ["calm", "lively!"]


def test_labels_go_into_the_store_once(tmp_path: Path) -> None:
    file = str(answers(tmp_path, 3))
    with judging() as server:
        assert "3 rows = 3 taken" in run(tmp_path, file, "--ingest", **of(server)).stdout
        again = run(tmp_path, file, "--ingest", **of(server))
    assert "6 answers were known" in again.stdout
    assert "nothing new" in again.stdout
    store = FeedbackStore.open(str(tmp_path / "store"))
    [batch] = store.batches()
    labels = [label for row in store.read_batch(batch.digest)["labels"].to_list() for label in row]
    assert {label["labeler_kind"] for label in labels} == {"model"}
    assert batch.importer == "canonical"


def test_agreement_with_people_is_told_with_the_weight_it_gives(tmp_path: Path) -> None:
    with judging() as server:
        file = answers(tmp_path, 25, labeled=True)
        result = run(tmp_path, str(file), "--output", str(tmp_path / "out.jsonl"), **of(server))
    assert "agreement with people: Krippendorff's alpha 1.000 (1.000 to 1.000); on 100.0% of the pairs" in result.stdout
    assert "A vote counts 1.00 of a person's" in result.stdout


def test_why_agreement_is_not_known_is_said(tmp_path: Path) -> None:
    file, output = answers(tmp_path, 25, labeled=True), str(tmp_path / "out.jsonl")
    few = "fewer than 26 pairs were judged by people too (preferences.model_labelers.min_shared)"
    ties = [json.loads(line) for line in file.read_text().splitlines()]
    with judging(lambda *_: completion("VERDICT: TIE")) as server:
        said = run(
            tmp_path, str(file), "--output", output, **of(server), **{"preferences.model_labelers.min_shared": 26}
        ).stdout
        assert few in said
        for row in ties:
            row["labels"] = [{"kind": "ranking", "ranks": {"a": 1, "b": 1}, "labeler": who} for who in ("ann", "ben")]
        file.write_text("".join(f"{json.dumps(row)}\n" for row in ties))
        said = run(tmp_path, str(file), "--output", output, **of(server)).stdout
    assert "agreement with people is not known: on the pairs that both judged nothing varies" in said
    assert "fewer than" not in said
    assert "A vote counts 0.5 of a person's" in said


def test_people_of_the_store_are_asked_too(tmp_path: Path) -> None:
    file = answers(tmp_path, 25, labeled=True)
    arguments = ["ingest", str(file), "-c", str(CONFIG), "--set", f"home={tmp_path / 'home'}"]
    CliRunner().invoke(app, [*arguments, "--set", f"store.url={tmp_path / 'store'}"], catch_exceptions=False)
    [batch] = FeedbackStore.open(str(tmp_path / "store")).batches()

    def contrary(server: JudgeServer, body: dict[str, Any]) -> Reply:
        return completion("VERDICT: A" if "!" not in answers_of(body)[0] else "VERDICT: B")

    with judging(contrary) as server:
        result = run(tmp_path, "--batch", batch.digest[:12], "--ingest", **of(server))
    assert "Krippendorff's alpha -" in result.stdout
    assert "on 0.0% of the pairs" in result.stdout
    assert "A vote counts 0.00 of a person's" in result.stdout
    assert "25 rows = 25 taken" in result.stdout


def test_programs_label_without_a_model(tmp_path: Path) -> None:
    rules = '[{"name": "short", "kind": "length", "max": 7}]'
    out = tmp_path / "out.jsonl"
    result = run(tmp_path, str(answers(tmp_path, 2)), "--rules", "--output", str(out), **{"judge.rules": rules})
    [label] = json.loads(out.read_text().splitlines()[0])["labels"]
    assert (label["labeler_kind"], label["criterion"], label["scores"]) == ("signal", "short", {"0": 1.0, "1": 0.0})
    assert "labeler rule:short:" in result.stdout


def test_the_budget_ends_with_words_and_what_is_done(tmp_path: Path) -> None:
    priced = {"judge.price_input": 0, "judge.price_output": 1000, "judge.max_cost": 0.55, "judge.concurrent": 1}
    with (
        judging() as server,
        pytest.raises(RewardloopError, match=r"stopped before judge\.max_cost \(0\.55\).*run the same again"),
    ):
        run(tmp_path, str(answers(tmp_path, 5)), "--output", str(tmp_path / "out.jsonl"), **of(server), **priced)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_going_on_after_an_empty_budget_labels_nothing_twice(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    rows = [{"prompt": f"Q{i}", "responses": [f"calm {i}", f"lively {i}!", f"loud {i}!!"]} for i in range(3)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    priced = {"judge.price_input": 0, "judge.price_output": 1000, "judge.concurrent": 1}
    with judging() as server:
        with pytest.raises(RewardloopError, match=r"stopped before judge\.max_cost"):
            run(tmp_path, str(file), "--ingest", **of(server), **priced, **{"judge.max_cost": 0.6})
        run(tmp_path, str(file), "--ingest", **of(server), **priced, **{"judge.max_cost": 10})
    store = FeedbackStore.open(str(tmp_path / "store"))
    read = [store.read_batch(batch.digest) for batch in store.batches()]
    assert len(read) == 2
    records = {row["record"]: row for frame in read for row in frame.iter_rows(named=True)}
    assert [len(row["labels"]) for row in records.values()] == [3, 3, 3]


def test_the_key_is_in_no_message_and_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    with judging(lambda *_: failure(403, f"who is {SECRET}?")) as server:
        with pytest.raises(BadInputError, match=r"judge\.key_variable names \(JUDGE_KEY\)") as caught:
            run(
                tmp_path, str(answers(tmp_path, 1)), "--ingest", **of(server), **{"judge.key_variable": "JUDGE_KEY"}
            )  # fmt: skip
        assert server.keys == [f"Bearer {SECRET}"] * len(server.keys)
    assert SECRET not in str(caught.value)
    files = [place for place in tmp_path.rglob("*") if place.is_file()]
    assert not [place for place in files if SECRET.encode() in place.read_bytes()]


def test_a_model_that_answers_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with (
        judging(lambda *_: completion("No.")) as server,
        pytest.raises(RewardloopError, match=r"no group has a label \(4 questions unreadable.*correct judge\.model"),
    ):
        run(tmp_path, str(answers(tmp_path, 2)), "--ingest", **of(server))


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        ([], {}, "name either files of answers, or a batch"),
        (["FILE", "--batch", "ab"], {}, "name either files of answers, or a batch"),
        (["FILE"], {}, "name where labels go: --output FILE, --ingest"),
        (["FILE", "--ingest"], {}, r"judge\.constitution: is not set"),
        (["FILE", "--ingest"], {"judge.constitution": "x"}, "no model is named; set judge.base, or judge.url"),
        (["FILE", "--ingest", "--rules"], {}, r"judge\.rules: there is none"),
        (["nowhere.jsonl", "--ingest"], {}, "nowhere.jsonl: cannot be read"),
        (["--batch", "ab", "--ingest"], {}, "batch 'ab': no such batch"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, arguments: list[str], settings: dict[str, Any], words: str) -> None:
    named = [str(answers(tmp_path, 1)) if one == "FILE" else one for one in arguments]
    with pytest.raises(BadInputError, match=words):
        run(tmp_path, *named, **settings)
