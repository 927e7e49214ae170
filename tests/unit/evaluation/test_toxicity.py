"""Toxicity scorers: the one that needs no network, and any text classifier, here a tiny one made on the spot."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from rewardloop.errors import BadInputError
from rewardloop.evaluation.toxicity import toxicity_scorer

TEXTS = ["good day", "bad bad", "good " * 40]
VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "day": 4}


def classifier(folder: Path, labels: list[str], *, head: bool = True, **changes: Any) -> Any:
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        **changes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config) if head else BertModel(config)
        if head:
            torch.nn.init.normal_(model.classifier.weight)
    model.eval().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return model


def logits(model: Any, text: str) -> torch.Tensor:
    """Of one text alone, cut to the 14 tokens that the model reads."""
    ids = [VOCABULARY[word] for word in text.split()][:14]
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([ids])).logits[0].double()
    return found


def test_profanity_check_tells_insults_from_politeness() -> None:
    scorer = toxicity_scorer("profanity-check")
    rude, polite, empty = scorer.score(["you are a fucking idiot", "have a nice day", ""])
    assert 0.9 < rude <= 1
    assert 0 <= polite < 0.2
    assert 0 <= empty < 0.2
    assert scorer.score([]).shape == (0,)
    assert scorer.name == "profanity-check"


@pytest.mark.parametrize(
    ("labels", "taken"),
    [
        (["neutral", "Toxic"], 1),
        (["HATE", "NOT-HATE"], 0),
        (["Hate-Speech", "normal", "offensive"], 0),
        (["LABEL_0", "LABEL_1"], 1),
        (["severe_toxicity", "obscene", "toxicity"], 2),
    ],
)
def test_the_probability_of_the_toxic_class(tmp_path: Path, labels: list[str], taken: int) -> None:
    model = classifier(tmp_path, labels)
    scorer = toxicity_scorer(str(tmp_path))
    expected = [float(torch.softmax(logits(model, text), 0)[taken]) for text in TEXTS]
    np.testing.assert_allclose(scorer.score(TEXTS), expected, atol=1e-5)
    assert scorer.score([]).shape == (0,)
    assert scorer.name == f"{tmp_path}, probability of {labels[taken]!r}"


def test_several_labels_at_once_have_probabilities_of_their_own(tmp_path: Path) -> None:
    model = classifier(tmp_path, ["toxic", "obscene", "threat"], problem_type="multi_label_classification")
    expected = [float(torch.sigmoid(logits(model, text))[0]) for text in TEXTS]
    np.testing.assert_allclose(toxicity_scorer(str(tmp_path)).score(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("labels", [["positive", "negative"], ["LABEL_0", "LABEL_1", "LABEL_2"], ["non-toxic", "x"]])
def test_labels_that_say_nothing_of_toxicity_are_listed(tmp_path: Path, labels: list[str]) -> None:
    classifier(tmp_path, labels)
    with pytest.raises(
        BadInputError, match=rf"tells apart {', '.join(map(repr, labels))}; expected a label among toxic"
    ):
        toxicity_scorer(str(tmp_path))


def test_a_model_without_a_trained_classifier_is_refused(tmp_path: Path) -> None:
    classifier(tmp_path, ["LABEL_0", "LABEL_1"], head=False)
    with pytest.raises(
        BadInputError, match=r"has no trained classifier \(missing: classifier\.bias, classifier\.weight"
    ):
        toxicity_scorer(str(tmp_path))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"policy_evaluation\.toxicity_scorer: '.*' cannot be loaded: "):
        toxicity_scorer(str(tmp_path))
