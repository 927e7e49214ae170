"""Texts to tokens to scores: the same wherever a model is loaded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from rewardloop.config import TrainingSettings
from rewardloop.errors import RewardloopError
from rewardloop.modeling.parity import check_parity
from rewardloop.modeling.reward_model import build_reward_model, freeze_template, save_reward_model
from rewardloop.modeling.scoring import Encoder, Encoding, RewardScorer, as_messages, pad, public_score, read_padded

SCORING: dict[str, Any] = {
    "template": "plain",
    "max_length": 64,
    "truncation_side": "left",
    "scale": {"raw": [0.0, 1.0], "public": [0.0, 1.0]},
    "threshold": None,
}
USER = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def saved(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, tokenizer = build_reward_model(tiny_base, TrainingSettings())
    folder = tmp_path_factory.mktemp("reward_model")
    save_reward_model(model, tokenizer, folder / "model")
    (folder / "scoring.json").write_text(json.dumps(SCORING))
    return folder


@pytest.fixture(scope="module")
def scorer(saved: Path) -> RewardScorer:
    return RewardScorer.load(saved)


def encoder(base: str, **changes: Any) -> Encoder:
    settings = {"template": "plain", "max_length": 64, "truncation_side": "left"} | changes
    return Encoder(AutoTokenizer.from_pretrained(base), Encoding(**settings))


def test_a_sequence_is_the_prompts_tokens_then_the_responses(tiny_base: str) -> None:
    encode = encoder(tiny_base)
    tokenizer = encode.tokenizer
    ids = encode(USER, "yes").ids
    assert ids is not None
    assert tokenizer.decode(ids) == "\n\nHuman: hi\n\nAssistant: yes<eos>"
    assert encode([], "yes").ids == [*tokenizer("yes")["input_ids"], tokenizer.eos_token_id]


@pytest.mark.parametrize(("side", "left"), [("left", "ant: yes<eos>"), ("right", "\n\nHu yes<eos>")])
def test_the_prompt_is_cut_on_the_configured_side_and_the_response_never(tiny_base: str, side: str, left: str) -> None:
    encoded = encoder(tiny_base, max_length=9, truncation_side=side)(USER, "yes")
    assert encoded.prompt_cut
    assert AutoTokenizer.from_pretrained(tiny_base).decode(encoded.ids) == left


def test_a_response_that_is_too_long_has_no_score_and_is_blocked(saved: Path) -> None:
    scorer = RewardScorer.load(saved)
    scorer.scoring["threshold"] = -1e9
    scores = scorer.score([[], []], ["fine", "x" * 100])
    assert np.isnan(scores).tolist() == [False, True]
    assert scorer.allowed(scores).tolist() == [True, False]


def test_chat_template_ends_before_the_response(tiny_base: str) -> None:
    encode = encoder(tiny_base, template="chat")
    encode.tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ strftime_now('%Y') }}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    freeze_template(encode.tokenizer)
    ids = encode(USER, "yes").ids
    # The year is the frozen one, not today's.
    assert encode.tokenizer.decode(ids) == "[user]hi2024[assistant]yes<eos>"


def test_score_does_not_depend_on_neighbours_or_order(scorer: RewardScorer) -> None:
    texts = ["short", "a much longer text than all of the others", "middling text", "x"]
    together = scorer.raw_scores([[]] * 4, texts, tokens_per_batch=64)
    alone = np.array([scorer.raw_scores([[]], [text])[0] for text in texts])
    backwards = scorer.raw_scores([[]] * 4, texts[::-1], tokens_per_batch=48)[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, backwards, atol=1e-5)


def test_score_is_read_at_the_last_token(scorer: RewardScorer) -> None:
    """Against the plain computation: one row, no padding, the model's own head on the last hidden state."""
    ids, mask = pad([[7, 8, 9, 1]], 0)
    with torch.inference_mode():
        hidden = scorer.model.model(input_ids=ids).last_hidden_state[0, -1]
        expected = scorer.model.score(hidden)
        padded, longer = pad([[7, 8, 9, 1], [5] * 9], 0)
        assert torch.allclose(read_padded(scorer.model, padded, longer)[0], expected[0], atol=1e-5)
        assert torch.allclose(read_padded(scorer.model, ids, mask)[0], expected[0], atol=1e-6)


def test_public_scale_is_linear_beyond_its_knots() -> None:
    scale = {"raw": [0.0, 1.0, 3.0], "public": [0.0, 2.0, 3.0]}
    values = public_score(np.array([-1.0, 0.0, 1.0, 3.0, 5.0, np.nan]), scale)
    np.testing.assert_allclose(values[:5], [-2.0, 0.0, 2.0, 3.0, 4.0])
    assert np.isnan(values[5])


def test_two_knots_are_a_straight_line() -> None:
    np.testing.assert_allclose(public_score(np.array([-2.0, 0.5, 4.0]), {"raw": [0, 1], "public": [1, 3]}), [-3, 2, 9])


@given(
    knots=st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)), min_size=2, max_size=8),
    points=st.lists(st.floats(-30, 60), min_size=2, max_size=20, unique_by=lambda value: round(value, 3)),
)
def test_public_scale_keeps_every_order(knots: list[tuple[float, float]], points: list[float]) -> None:
    x, y = np.cumsum(np.array(knots), axis=0).T
    raw = np.sort(np.round(points, 3))
    assert (np.diff(public_score(raw, {"raw": x.tolist(), "public": y.tolist()})) > 0).all()


def test_no_threshold_cannot_decide(scorer: RewardScorer) -> None:
    with pytest.raises(ValueError, match="no certified threshold"):
        scorer.allowed(np.array([1.0]))


def test_two_thresholds_decide_three_ways(saved: Path) -> None:
    scorer = RewardScorer.load(saved)
    scores = np.array([2.0, 1.0, 0.5, 0.0, -0.1, np.nan, np.inf, -np.inf])
    scorer.scoring["threshold"] = 1.0
    assert scorer.block_threshold is None
    assert scorer.decisions(scores).tolist() == ["accept"] * 2 + ["block"] * 6
    scorer.scoring["block_threshold"] = 0.0
    # What has no score is for a person: no promise about blocked answers covers it.
    assert scorer.decisions(scores).tolist() == ["accept"] * 2 + ["review"] * 2 + ["block"] + ["review"] * 3
    assert scorer.allowed(scores).tolist() == [True] * 2 + [False] * 6
    # Where both thresholds meet, nothing with a score lies between.
    scorer.scoring["block_threshold"] = 1.0
    assert scorer.decisions(scores[:5]).tolist() == ["accept"] * 2 + ["block"] * 3
    scorer.scoring["threshold"] = None
    with pytest.raises(ValueError, match="no certified threshold"):
        scorer.decisions(scores)


def test_parity_notices_a_changed_model(saved: Path, tmp_path: Path) -> None:
    scorer = RewardScorer.load(saved)
    texts = ["one", "two"]
    fixture = tmp_path / "parity.json"
    raw = scorer.raw_scores([[], []], texts).tolist()
    fixture.write_text(json.dumps({"prompts": [[], []], "responses": texts, "raw_scores": raw}))
    assert check_parity(scorer, fixture, where="here") <= 1e-6
    with torch.no_grad():
        scorer.model.score.weight.mul_(1.01)
    with pytest.raises(RewardloopError, match=r"here: text \d of parity.json scores"):
        check_parity(scorer, fixture, where="here")


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        (None, []),
        ("", []),
        (float("nan"), []),
        ("hi", USER),
        ("[not json", [{"role": "user", "content": "[not json"}]),
        (json.dumps(USER), USER),
        (USER, USER),
    ],
)
def test_a_prompt_is_text_messages_or_nothing(prompt: Any, messages: list[dict[str, str]]) -> None:
    assert as_messages(prompt) == messages


@pytest.mark.parametrize("prompt", [3, [{"role": "robot", "content": "x"}], [{"role": "user"}], ["x"]])
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        as_messages(prompt)


CHAT = [{"role": "user", "content": "why is it so?"}]


def test_responses_to_one_prompt_share_its_computation(scorer: RewardScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    responses = ["yes", "no", "perhaps so", "never"]
    seen: list[int] = []
    embed = scorer.model.model.embed_tokens
    monkeypatch.setattr(
        embed, "forward", lambda ids, forward=embed.forward: (seen.append(ids.numel()), forward(ids))[1]
    )
    together = scorer.raw_scores([CHAT] * 4, responses)
    shared = sum(seen)
    alone = [scorer.raw_scores([CHAT], [response])[0] for response in responses]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert shared < (sum(seen) - shared) / 2


def test_a_prompt_with_more_responses_than_fit_into_a_batch(scorer: RewardScorer) -> None:
    responses = [f"answer {number}" for number in range(30)]
    small = scorer.raw_scores([CHAT] * 30, responses, tokens_per_batch=80)
    np.testing.assert_allclose(small, scorer.raw_scores([CHAT] * 30, responses), atol=1e-5)


def test_a_stream_is_scored_in_its_order_and_never_held_whole(
    scorer: RewardScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewardloop.modeling.scoring.scorer._CHUNK", 8)
    taken: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(30):
            taken.append(number)
            yield {"prompt": CHAT if number % 3 else [], "response": f"answer {number}" if number != 5 else "x" * 100}

    stream = scorer.stream(rows())
    first, score = next(stream)
    assert first["response"] == "answer 0"
    assert len(taken) == 8
    rest = list(stream)
    assert [row["response"] for row, _ in rest[5:7]] == ["answer 6", "answer 7"]
    assert np.isnan(rest[4][1])
    expected = scorer.score([CHAT if n % 3 else [] for n in range(30)], [f"answer {n}" for n in range(30)])
    np.testing.assert_allclose([score, *(value for _, value in rest[5:])], [expected[0], *expected[6:]], atol=1e-5)


def test_progress_counts_every_row(scorer: RewardScorer) -> None:
    counted: list[int] = []
    scorer.raw_scores([[]] * 3, ["a", "x" * 100, "b"], progress=counted.append)
    assert sum(counted) == 3


@pytest.fixture
def rounding(saved: Path, monkeypatch: pytest.MonkeyPatch) -> RewardScorer:
    """A scorer on hardware that is said to compute in bfloat16, with a threshold amid the scores."""
    monkeypatch.setattr("rewardloop.modeling.scoring.scorer.fast_bfloat16", lambda device: True)
    scorer = RewardScorer.load(saved)
    with torch.no_grad():
        # Seeded: some heads are so unlucky that rounding is refused.
        scorer.model.score.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(4))
    return scorer


TEXTS = [f"{'good ' * (number % 5)}{'bad ' * (number % 3)}film {number}" for number in range(60)]
FIXTURE = {"prompts": [[]] * 16, "responses": TEXTS[:16]}


def apart_from_fixture(exact: np.ndarray, count: int) -> np.ndarray:
    """Places of texts that no text of the fixture is close to: a threshold there does not let rounding be refused."""
    return 16 + np.argsort(np.abs(exact[16:, None] - exact[None, :16]).min(axis=1))[-count:]


def test_rounding_changes_no_decision(rounding: RewardScorer) -> None:
    exact = rounding.score([[]] * 60, TEXTS)
    place = apart_from_fixture(exact, 1)[0]
    rounding.scoring["threshold"] = float(exact[place])
    assert rounding.allow_rounding(FIXTURE)
    rounded = rounding.score([[]] * 60, TEXTS)
    assert 0 < np.abs(rounded - exact).max() < 0.2 * exact.std()
    assert (rounding.allowed(rounded) == rounding.allowed(exact)).all()
    # What lies at the threshold was computed in float32 again.
    assert np.abs(rounded - exact)[place] < 1e-5


def test_rounding_changes_no_decision_at_either_threshold(rounding: RewardScorer) -> None:
    exact = rounding.score([[]] * 60, TEXTS)
    places = apart_from_fixture(exact, 2)
    rounding.scoring["block_threshold"], rounding.scoring["threshold"] = np.sort(exact[places]).tolist()
    assert rounding.allow_rounding(FIXTURE)
    rounded = rounding.score([[]] * 60, TEXTS)
    assert np.abs(rounded - exact).max() > 1e-5
    assert (rounding.decisions(rounded) == rounding.decisions(exact)).all()
    assert np.abs(rounded - exact)[places].max() < 1e-5


def test_rounding_is_refused_where_it_moves_scores_too_much(
    rounding: RewardScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewardloop.modeling.scoring.scorer._ROUNDING", 1e-6)
    assert not rounding.allow_rounding(FIXTURE)
    before = rounding.raw_scores([[]] * 4, TEXTS[:4])
    np.testing.assert_array_equal(before, rounding.raw_scores([[]] * 4, TEXTS[:4]))
    assert rounding.rounding is None


def test_rounding_is_refused_where_a_decision_of_the_fixture_changes(rounding: RewardScorer) -> None:
    exact = rounding.raw_scores(FIXTURE["prompts"], FIXTURE["responses"])
    assert rounding.allow_rounding(FIXTURE)
    rounded = rounding._raw(FIXTURE["prompts"], FIXTURE["responses"], model=rounding._rounded)
    lower, higher = np.sort([exact[3], rounded[3]])
    between = float((lower + higher) / 2)
    for cuts in ({"threshold": between}, {"threshold": between + 100, "block_threshold": between}):
        rounding.scoring |= cuts
        assert not rounding.allow_rounding(FIXTURE)


def test_withoutfast_bfloat16_scores_stay_float32(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewardloop.modeling.scoring.scorer.fast_bfloat16", lambda device: False)
    assert not RewardScorer.load(saved).allow_rounding(FIXTURE)
