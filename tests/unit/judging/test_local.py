"""A model of this machine as the judge."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rewardloop.config import JudgeSettings
from rewardloop.errors import BadInputError
from rewardloop.judging.backends import UnanswerableError
from rewardloop.judging.cache import AnswerCache
from rewardloop.judging.judge import judge_items
from rewardloop.judging.local import LocalJudge
from rewardloop.judging.questions import pair_question, score_question
from tests.unit.judging.test_judge import item


def settings(**more: Any) -> JudgeSettings:
    return JudgeSettings.model_validate({"base": "random:tiny", "constitution": "x", "device": "cpu"} | more)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> LocalJudge:
    return LocalJudge(settings(), tmp_path_factory.mktemp("bases"))


def by_hand(judge: LocalJudge, text: str, option: str) -> float:
    """Log-probability of one option behind the question, from one plain pass over both."""
    tokenizer, model = judge._tokenizer, judge._model
    prompt = tokenizer(text)["input_ids"]
    answer = [*tokenizer(f" {option}")["input_ids"], tokenizer.eos_token_id]
    with torch.inference_mode():
        logp = model(torch.tensor([[*prompt, *answer]])).logits[0].float().log_softmax(-1)
    return sum(float(logp[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))


def text_of(question: Any) -> str:
    return "\n\n".join(message["content"] for message in question.messages) + f"\n\n{question.stem}"


def test_the_most_probable_verdict_is_given(judge: LocalJudge) -> None:
    question = pair_question([], "one", "two", settings())
    expected = {option: by_hand(judge, text_of(question), option) for option in question.options}
    found = judge._logprobs(judge._prompt(question), judge._options(question))
    assert found.tolist() == pytest.approx(list(expected.values()), abs=1e-3)
    answer = judge.answer(question)
    assert answer.text == f"VERDICT: {max(expected, key=lambda option: expected[option])}"
    assert question.read(answer.text) is not None


def test_a_score_is_the_expectation_over_the_scale(judge: LocalJudge) -> None:
    question = score_question([], "one", settings(kind="rating", scale=[8, 11]))
    weight = {option: by_hand(judge, text_of(question), option) for option in ("8", "9", "10", "11")}
    p = torch.tensor(list(weight.values())).softmax(0)
    expected = float((p * torch.tensor([8.0, 9.0, 10.0, 11.0])).sum())
    score = question.read(judge.answer(question).text)
    assert isinstance(score, float)
    assert score == pytest.approx(expected, abs=2e-3)


def test_a_question_that_is_too_long_is_left_out(judge: LocalJudge) -> None:
    with pytest.raises(UnanswerableError, match="longer than the judge reads"):
        judge.answer(pair_question([], "one " * 1000, "two", settings()))


def test_a_model_without_a_system_role_is_asked_in_one_message(judge: LocalJudge) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    template += "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    tokenizer = judge._tokenizer
    try:
        tokenizer.chat_template = template
        text = tokenizer.decode(judge._prompt(pair_question([], "one", "two", settings())))
    finally:
        tokenizer.chat_template = None
    assert text.startswith("<user>You label answers")
    assert text.endswith("VERDICT:")


def test_a_run_labels_every_group_alike_each_time(judge: LocalJudge, tmp_path: Path) -> None:
    items = [item("a", "b", "c"), item("d", "e", prompt="R")]
    one = judge_items(items, judge, AnswerCache(tmp_path / "1"), settings())
    two = judge_items(items, judge, AnswerCache(tmp_path / "2"), settings())
    assert [len(group.labels) for group in one.groups] == [3, 1]
    assert one.groups == two.groups
    assert one.groups[0].labels[0].labeler_kind == "model"


def test_a_model_that_is_not_there_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"judge\.base: 'random:huge': the only model"):
        LocalJudge(settings(base="random:huge"), tmp_path)
    with pytest.raises(BadInputError, match=r"judge\.device: found 'tpu'"):
        LocalJudge(settings(device="tpu"), tmp_path)
