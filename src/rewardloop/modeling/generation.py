"""Answers of a policy, sampled by temperature alone, many at a time.

In: prompts as tokens. Out: the tokens of the answers, each ending with its end token or at the limit. Prompts are
padded on the left and read once each, however often they are answered; the key-value cache grows by one token a step,
and answers that came to their end leave the batch. Adapters are merged into the weights meanwhile.

Shapes: R rows, P tokens of the longest prompt, V tokens of the vocabulary, S tokens of an answer at most.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rewardloop.config import GenerationSettings
from rewardloop.modeling.key_value_cache import growing_cache
from rewardloop.modeling.policy import Policy


def generate(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    samples: int = 1,
    seed: int | Sequence[int] = 0,
    numbers: Sequence[int] | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[list[list[int]]]:
    """``samples`` answers to each prompt, as tokens, in the order of the prompts.

    The same seed, numbers, prompts and weights give the same answers: noise belongs to a prompt, so that neither
    the prompts beside it nor the process that answers it changes an answer, but for rounding.

    Args:
        policy: answers as it is now, with adapters if it has some that are on.
        prompts: tokens, at least one each.
        settings: temperature, most new tokens, and how many answers are generated at once.
        samples: answers per prompt.
        seed: of the sampling.
        numbers: with the seed, what each prompt's noise is drawn from; None: its position.
        progress: told how many answers were finished.
    """
    answers: list[list[list[int]]] = [[] for _ in prompts]
    training = policy.model.training
    policy.model.eval()
    numbers = range(len(prompts)) if numbers is None else numbers
    try:
        with torch.inference_mode(), policy.merged_adapters(), policy.autocast():
            for places in _batches(prompts, max(1, settings.rows // samples)):
                noise_RS = torch.cat([_noise(seed, numbers[place], samples, settings) for place in places])
                found = _generate_batch(
                    policy, [prompts[place] for place in places], settings, samples, noise_RS.to(policy.device)
                )
                for place, rows in zip(places, found, strict=True):
                    answers[place] = rows
                if progress:
                    progress(len(places) * samples)
    finally:
        policy.model.train(training)
    return answers


def _noise(seed: int | Sequence[int], number: int, samples: int, settings: GenerationSettings) -> Tensor:
    """A uniform number for each token of each answer to one prompt; drawn on the CPU, the same for every device."""
    import numpy as np

    parts = [seed] if isinstance(seed, int) else list(seed)
    state = np.random.SeedSequence(parts, spawn_key=(number,)).generate_state(1, np.uint64)[0]
    random = torch.Generator()
    random.manual_seed(int(state >> 1))
    return torch.rand(samples, settings.max_new_tokens, generator=random)


def _batches(prompts: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Positions of prompts of like length, ``size`` at a time."""
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _generate_batch(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    samples: int,
    noise_RS: Tensor,
) -> list[list[list[int]]]:
    causal, device = policy.causal_model, policy.device
    longest = max(map(len, prompts))
    ids_RP = torch.tensor([[policy.pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask_RP = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    ids_RP, mask_RP = ids_RP.to(device), mask_RP.to(device)
    cache = growing_cache(causal.config)
    hidden = _read(causal, ids_RP, mask_RP, _positions(mask_RP), cache)
    cache.batch_repeat_interleave(samples)
    hidden_RH = hidden[:, -1].repeat_interleave(samples, 0)
    mask_RP = mask_RP.repeat_interleave(samples, 0)
    ends = torch.tensor(sorted(policy.ends), device=device)
    rows: list[list[int]] = [[] for _ in range(len(prompts) * samples)]
    alive = list(range(len(rows)))
    for step in range(settings.max_new_tokens):
        token_R = _sample(causal, hidden_RH, settings.temperature, noise_RS[:, step])
        for row, token in zip(alive, token_R.tolist(), strict=True):
            rows[row].append(token)
        if step + 1 == settings.max_new_tokens:
            break
        going = (~torch.isin(token_R, ends)).nonzero()[:, 0]
        if not len(going):
            break
        if len(going) < len(alive):
            alive = [alive[place] for place in going.tolist()]
            cache.batch_select_indices(going)
            mask_RP, token_R, noise_RS = mask_RP[going], token_R[going], noise_RS[going]
        mask_RP = torch.nn.functional.pad(mask_RP, (0, 1), value=1)
        hidden_RH = _read(causal, token_R[:, None], mask_RP, mask_RP.sum(1, keepdim=True) - 1, cache)[:, -1]
    return [rows[start : start + samples] for start in range(0, len(rows), samples)]


def _read(causal: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    hidden: Tensor = causal.base_model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    return hidden


def _positions(mask_RP: Tensor) -> Tensor:
    return (mask_RP.cumsum(1) - 1).clamp(min=0)


def _sample(causal: Any, hidden_RH: Tensor, temperature: float, noise_R: Tensor) -> Tensor:
    from rewardloop.modeling.token_logprobs import logits_of

    logits_RV = logits_of(causal, hidden_RH)
    # One uniform number per row against cumulative sums: noise for every token of the vocabulary takes longer than the
    # model itself. Sums of one row are accurate to about 1e-7, far below what any sample can show.
    sums_RV = logits_RV.div_(temperature).softmax(-1).cumsum(-1)
    drawn_R1 = noise_R[:, None] * sums_RV[:, -1:]
    return torch.searchsorted(sums_RV, drawn_R1, right=True)[:, 0].clamp(max=sums_RV.shape[1] - 1)
