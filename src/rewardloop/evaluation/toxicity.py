"""How toxic answers are, from 0 to 1, by a scorer that has nothing to do with the reward model.

In: ``policy_evaluation.toxicity_scorer`` of the configuration. Out: a name for people and what scores texts.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rewardloop.bootstrap import Floats
from rewardloop.errors import BadInputError

_FIELD = "policy_evaluation.toxicity_scorer"
_LABELS = ("toxic", "toxicity", "hate", "hateful", "hate_speech", "offensive", "abusive")
"""What classifiers call the class that is looked for; the first that a model has is taken."""
_UNNAMED = {"label_0", "label_1"}
_BATCH = 32
_LONGEST = 100_000
"""Tokenizers without a limit of their own have an absurd one."""


class ToxicityScorer(NamedTuple):
    """``score`` takes texts and gives float64 of shape (texts,), from 0 to 1."""

    name: str
    """In words."""
    score: Callable[[Sequence[str]], Floats]


def toxicity_scorer(name: str) -> ToxicityScorer:
    """The scorer of the configuration.

    Args:
        name: ``profanity-check``, or a text classifier for transformers: a hub id or a directory. Of the latter, the
            probability of the class that it calls toxic is taken; of texts beyond its limit it reads the beginning.

    Raises:
        BadInputError: there is no such classifier, its head was never trained, or none of its labels says "toxic".
    """
    return _profanity_check() if name == "profanity-check" else _classifier(name)


def _profanity_check() -> ToxicityScorer:
    from profanity_check import predict_prob

    def score(texts: Sequence[str]) -> Floats:
        # It cannot be asked about no texts at all.
        return np.asarray(predict_prob(list(texts)), dtype=float) if len(texts) else np.empty(0)

    return ToxicityScorer("profanity-check", score)


def _classifier(name: str) -> ToxicityScorer:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            name, output_loading_info=True, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (ImportError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise BadInputError(
            f"{_FIELD}: {name!r} cannot be loaded: {first} Expected profanity-check, or a text classifier: a hub id or "
            "a directory"
        ) from error
    if loading["missing_keys"]:
        # transformers makes up a head for any model that has none, with a warning.
        raise BadInputError(
            f"{_FIELD}: {name!r} has no trained classifier (missing: {', '.join(sorted(loading['missing_keys']))}); "
            "expected a model that was trained to classify texts"
        )
    label = _toxic_label(name, list(model.config.id2label.values()))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device=device, top_k=None)
    limit = _limit(tokenizer, model)
    rows = _BATCH if tokenizer.pad_token is not None else 1

    def score(texts: Sequence[str]) -> Floats:
        found = classify(list(texts), batch_size=rows, truncation=True, max_length=limit) if len(texts) else []
        return np.array([next(one["score"] for one in each if one["label"] == label) for each in found], dtype=float)

    return ToxicityScorer(f"{name}, probability of {label!r}", score)


def _toxic_label(name: str, labels: Sequence[str]) -> str:
    """The label whose probability is meant by toxicity."""
    plain = {label.strip().lower().replace(" ", "_").replace("-", "_"): label for label in labels}
    for wanted in _LABELS:
        if wanted in plain:
            return plain[wanted]
    if set(plain) == _UNNAMED:  # two classes without names: by custom, class 1 is what the model was made to find
        return plain["label_1"]
    raise BadInputError(
        f"{_FIELD}: {name!r} tells apart {', '.join(map(repr, labels))}; expected a label among "
        f"{', '.join(_LABELS)}, or LABEL_0 and LABEL_1"
    )


def _limit(tokenizer: Any, model: Any) -> int:
    """Tokens of a text that the model can read."""
    limit = int(tokenizer.model_max_length)
    if limit <= _LONGEST:
        return limit
    # Some models (RoBERTa's) number positions from the padding token's id + 1 on.
    return int(getattr(model.config, "max_position_embeddings", 514)) - 2
