"""A judge on this machine: a causal language model, asked through the probabilities of the verdicts.

In: ``judge.base``. Out: the verdict that the model finds most probable as its whole answer, or the score that it
expects. Nothing is generated, so there is nothing that could not be read; the line given back is what another judge
would have written.

Shapes: P tokens of the question, O options, S tokens of the longest option.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardloop.config import JudgeSettings
from rewardloop.errors import BadInputError
from rewardloop.judging.backends import UnanswerableError
from rewardloop.judging.cache import Answer
from rewardloop.judging.limits import Budget, Usage
from rewardloop.judging.questions import Question

if TYPE_CHECKING:
    from torch import Tensor


class LocalJudge:
    """A loaded model; one question at a time."""

    def __init__(self, settings: JudgeSettings, cache: Path) -> None:
        """Load ``judge.base``; converted bases are kept under ``cache``.

        Raises:
            BadInputError: there is no such model, it has no safetensors, or the device is not there.
        """
        from rewardloop.modeling.base import prepare_base
        from rewardloop.modeling.policy import load_causal_model
        from rewardloop.modeling.reward_model import weights_digest
        from rewardloop.training.devices import choose_device

        assert settings.base is not None, "the caller has chosen the local model"
        self._device = choose_device(settings.device, "judge.device")
        try:
            place = prepare_base(settings.base, cache)
        except BadInputError as error:
            raise BadInputError(str(error).replace("model.base", "judge.base")) from error
        self._weights = weights_digest(Path(place)) if Path(place).is_dir() else place
        model, self._tokenizer = load_causal_model(place)
        self._model = model.to(self._device).eval()
        limit = int(getattr(model.config, "max_position_embeddings", None) or settings.max_tokens)
        self._limit = min(limit, settings.max_tokens)
        self.budget = Budget(None, None, None)

    @property
    def identity(self) -> dict[str, object]:
        """The weights, and that probabilities are asked for."""
        return {"weights": self._weights, "asked": "probabilities of the verdicts", "limit": self._limit}

    @property
    def place(self) -> str:
        """This machine's is as good as any other's."""
        return "local"

    @property
    def concurrent(self) -> int:
        """The model fills the machine by itself."""
        return 1

    def stop(self) -> None:
        """Nothing is asked again here."""

    def answer(self, question: Question) -> Answer:
        """The most probable verdict; for scores the expectation over the scale, rounded to a thousandth.

        Raises:
            UnanswerableError: the question is longer than the model reads.
        """
        options = self._options(question)
        prompt = self._prompt(question)
        longest = len(prompt) + max(map(len, options))
        if longest > self._limit:
            raise UnanswerableError(f"longer than the judge reads ({self._limit:,} tokens)")
        logp = self._logprobs(prompt, options)
        if question.stem == "SCORE:":
            score = float((logp.softmax(-1) * _numbers(question.options, logp)).sum())
            low, high = float(question.options[0]), float(question.options[-1])
            text = f"SCORE: {min(max(round(score, 3), low), high):.10g}"
        else:
            text = f"VERDICT: {question.options[int(logp.argmax())]}"
        self.budget.release(0.0, Usage(longest, 0), (longest, 0))
        return Answer(text, input_tokens=longest, output_tokens=0)

    def _prompt(self, question: Question) -> list[int]:
        """The question, and of the answer's last line what stands before the verdict."""
        tokenizer = self._tokenizer
        messages = [dict(message) for message in question.messages]
        if tokenizer.chat_template:
            try:
                text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            except Exception as error:  # templates raise what they like; some know no system role
                if messages[0]["role"] != "system":
                    raise BadInputError(
                        f"judge.base: its chat template fails: {error}; choose another model"
                    ) from error
                joined = {"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
                text = tokenizer.apply_chat_template(
                    [joined, *messages[2:]], tokenize=False, add_generation_prompt=True
                )
            ids = tokenizer(text + question.stem, add_special_tokens=False)["input_ids"]
        else:
            text = "\n\n".join(message["content"] for message in messages)
            ids = tokenizer(f"{text}\n\n{question.stem}")["input_ids"]
            ids = ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids
        return [int(one) for one in ids]

    def _options(self, question: Question) -> list[list[int]]:
        """Each option with the end behind it: without that, 1 would be as probable as all that begins with it."""
        end = [] if self._tokenizer.eos_token_id is None else [int(self._tokenizer.eos_token_id)]
        return [
            [*self._tokenizer(f" {option}", add_special_tokens=False)["input_ids"], *end] for option in question.options
        ]

    def _logprobs(self, prompt: Sequence[int], options: Sequence[Sequence[int]]) -> "Tensor":
        """Log-probability of each option behind the prompt, which is read once; float32 of shape (O,)."""
        import torch

        from rewardloop.modeling.token_logprobs import logits_of

        longest = max(map(len, options))
        ids_OS = torch.tensor([[*option, *[0] * (longest - len(option))] for option in options], device=self._device)
        real_OS = torch.tensor(
            [[True] * len(option) + [False] * (longest - len(option)) for option in options], device=self._device
        )
        with torch.inference_mode():
            read = self._read(torch.tensor([list(prompt)], device=self._device), None)
            cache, last_1H = read.past_key_values, read.last_hidden_state[:, -1]
            logp_OS = [logits_of(self._model, last_1H).log_softmax(-1)[0][ids_OS[:, :1]]]
            if longest > 1:
                cache.batch_repeat_interleave(len(options))
                hidden_OSH = self._read(ids_OS[:, :-1], cache).last_hidden_state
                logits = torch.stack([logits_of(self._model, row) for row in hidden_OSH])
                logp_OS.append(logits.log_softmax(-1).gather(2, ids_OS[:, 1:, None])[..., 0])
            return torch.where(real_OS, torch.cat(logp_OS, 1), 0.0).sum(1)

    def _read(self, ids: "Tensor", cache: Any) -> Any:
        return self._model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)


def _numbers(options: Sequence[str], like: "Tensor") -> "Tensor":
    return like.new_tensor([float(option) for option in options])
