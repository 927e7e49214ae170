"""The HTML report: complete, self-contained, safe, and there for every way a run may end."""

import re
from pathlib import Path

import pytest

from rewardloop.errors import BadInputError
from rewardloop.evidence import Evidence, RunRecord, StepRecord
from rewardloop.reporting.run_evidence import RunEvidence, step_metrics
from tests import run_folders
from tests.report_pages import Page, rendered


@pytest.fixture(scope="module")
def blessed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return rendered(run_folders.blessed_run(tmp_path_factory.mktemp("blessed")))


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return rendered(run_folders.refused_run(tmp_path_factory.mktemp("refused")))


def test_nothing_is_fetched_and_nothing_runs(blessed: tuple[str, Page]) -> None:
    html, page = blessed
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert "://" not in (value or ""), (tag, name)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style


def test_feedback_is_text_and_never_markup(blessed: tuple[str, Page]) -> None:
    html, page = blessed
    assert "<script" not in html
    assert "<b>(1-10" not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in html
    assert "A fine $film$ & more." in page.text


def test_ids_are_unique_and_every_reference_leads_somewhere(blessed: tuple[str, Page]) -> None:
    html, page = blessed
    assert len(page.ids) == len(set(page.ids))
    targets = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html)
    assert len(targets) > 20
    assert {first or second for first, second in targets} <= set(page.ids)


def test_each_picture_has_a_text_alternative_and_no_colour_of_its_own(blessed: tuple[str, Page]) -> None:
    html, page = blessed
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 7
    assert all(attributes["aria-label"] and attributes["role"] == "img" for attributes in pictures)
    assert any("candidate 0.878" in (attributes["aria-label"] or "") for attributes in pictures)
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == []
        assert "var(--" in svg


def test_blessed_report_is_complete(blessed: tuple[str, Page]) -> None:
    _, page = blessed
    for words in (
        "Blessed: registered as film-reviews-reward version 2, which is now the champion.",
        "at most 10% are unacceptable, with 90% confidence",
        "says nothing about the new outputs of a policy",
        "0.863 to 0.893",
        "response is empty",
        "all labels of the group are ties",
        "refused: 31.0% of its rows failed, at most 5.0% may",
        "refused by validation, accepted by maria",
        "responses have 1 to 20,000 characters",
        "mean rating is at least 0",
        "It has its moments, and they are all in the trailer.",
        "Not a great film, but a warm one.",
        "So bad that it is good!",
        "(800 characters more)",
        "resumed from step 90",
        "threshold.alpha",
        "--set",
        "3 min 21 s",
        "e5e5e5e5",
    ):
        assert words in page.text.replace("\N{NO-BREAK SPACE}", " "), words
    for check in run_folders.blessing().checks:
        assert check.reason in page.text
        assert check.rule in page.text
    for split in run_folders.preferences().splits:
        assert f"{split.unacceptable:,}" in page.text


def test_refused_report_says_why_and_what_stays(refused: tuple[str, Page]) -> None:
    html, page = refused
    assert "Not blessed, nothing was registered: 2 of 3 checks failed. Version 1 stays the champion." in page.text
    for check in run_folders.blessing(blessed=False).checks:
        assert check.reason in page.text
    assert "Nothing is guaranteed." in page.text
    assert "About 1,200 calibration items would be needed; there are 140." in page.text
    assert "Exit code 3" in page.text
    assert html.index("min_accuracy</th>") < html.index("max_ece</th>"), "what failed comes first"


@pytest.mark.parametrize(
    ("step", "parts", "missing"),
    [
        ("load_corpus", [], "the batches"),
        ("validate_feedback", ["corpus"], "preferences and splits"),
        ("build_preferences", ["corpus", "validation"], "preferences and splits"),
        ("train_reward_model", ["corpus", "validation", "preferences"], "training"),
        ("evaluate_reward_model", ["corpus", "validation", "preferences", "training"], "held-out accuracy"),
        ("decide_promotion", ["corpus", "validation", "preferences", "training", "evaluation"], "the gate's checks"),
    ],
)
def test_failure_at_each_step_is_reported(tmp_path: Path, step: str, parts: list[str], missing: str) -> None:
    evidence: dict[str, Evidence] = {name: getattr(run_folders, name)() for name in parts}
    folder = run_folders.write_run(tmp_path, evidence, stop_at=step, error="labels.csv:7: <b>odd</b>", exit_code=2)
    html, page = rendered(folder)
    assert f"Failed at {step}." in page.text
    assert "labels.csv:7: <b>odd</b>" in page.text
    assert "<b>odd" not in html
    assert missing in page.text[page.text.index("Not reached:") :]
    assert "Exit code 2" in page.text


def test_failed_registration_of_a_blessed_candidate(tmp_path: Path) -> None:
    evidence: dict[str, Evidence] = {"evaluation": run_folders.evaluation(), "blessing": run_folders.blessing()}
    folder = run_folders.write_run(tmp_path, evidence, stop_at="register_models", error="MLflow: gone", exit_code=1)
    _, page = rendered(folder)
    assert "Failed at register_models although the candidate was blessed." in page.text
    assert "MLflow: gone" in page.text


def test_first_version_without_champion_nor_labelers(tmp_path: Path) -> None:
    evaluation = run_folders.evaluation(champion=False).model_copy(
        update={
            "one_labeler": None,
            "golden_accuracy": None,
            "length_controlled_accuracy": None,
            "reliability": [],
            "slices": [],
            "score_histogram": [],
            "highest": [],
        }
    )
    blessing = run_folders.blessing().model_copy(update={"champion": "no champion: first version"})
    registration = run_folders.registration().model_copy(update={"version": "1", "previous": None})
    folder = run_folders.write_run(
        tmp_path, {"evaluation": evaluation, "blessing": blessing, "registration": registration}
    )
    _, page = rendered(folder)
    assert "version 1, which is now the champion" in page.text
    assert "no champion: first version" in page.text
    assert "rollback" not in page.text


@pytest.mark.parametrize(("limit", "said"), [("None", True), ("0.25", False)])
def test_robustness_without_a_limit_is_said_to_decide_nothing(tmp_path: Path, limit: str, said: bool) -> None:
    folder = run_folders.blessed_run(tmp_path)
    record = RunRecord.model_validate_json((folder / "run.json").read_bytes())
    record.settings |= {"gate.max_robustness_change": limit, "gate.max_flips_to_accepted": "None"}
    (folder / "run.json").write_text(record.model_dump_json(), encoding="utf-8")
    assert ("these figures decide nothing" in rendered(folder)[1].text) is said


def test_unreadable_evidence_is_named_and_the_rest_shown(tmp_path: Path) -> None:
    folder = run_folders.blessed_run(tmp_path)
    (folder / "evidence" / "training.json").write_text('{"base": "x"}', encoding="utf-8")
    _, page = rendered(folder)
    assert "evidence/training.json cannot be read and is left out: method: Field required" in page.text
    assert "Checks of the gate" in page.text


@pytest.mark.parametrize("content", [None, "{", '{"run_id": "x"}'])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(BadInputError, match=r"run\.json: .*; name the folder of a run"):
        RunEvidence.read(tmp_path)


def test_time_processors_and_memory_of_each_step(tmp_path: Path) -> None:
    folder = run_folders.blessed_run(tmp_path)
    place = folder / "steps" / "train_reward_model.json"
    step = StepRecord.model_validate_json(place.read_bytes())
    measured = {"startup_seconds": 2.3, "cpu_seconds": 390.0, "peak_memory_bytes": 2_340_000_000}
    place.write_text(step.model_copy(update=measured).model_dump_json())
    page = rendered(folder)[1]
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    for words in ("Start-up", "2.3 s", "6 min 30 s", "2.3 GB"):
        assert words in text
    assert "GPU memory" not in text
    place.write_text(step.model_copy(update=measured | {"peak_gpu_memory_bytes": 812_000_000}).model_dump_json())
    assert "812 MB" in rendered(folder)[1].text.replace("\N{NO-BREAK SPACE}", " ")
    found = step_metrics(RunEvidence.read(folder))
    assert found["train_reward_model/cpu_seconds"] == 390.0
    assert found["train_reward_model/peak_gpu_memory_bytes"] == 812_000_000
    assert not [name for name in found if name.startswith("load_corpus/")], "it came from the cache"
