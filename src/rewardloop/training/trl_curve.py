"""The log history of a trainer of TRL as the curve that all algorithms share.

In: the history, one entry per optimizer step. Out: an ``UpdatePoint`` per update: of RLOO and GRPO, a set of answers
and the ``ppo.epochs`` optimizer steps that learnt from it; of DPO, one optimizer step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rewardloop.config import AlignSettings
from rewardloop.evidence import UpdatePoint

History = Sequence[Mapping[str, Any]]


def sampled_curve(history: History, settings: AlignSettings) -> list[UpdatePoint]:
    """Points of RLOO and GRPO, of the updates that are complete.

    TRL logs the mean KL per token; times the mean length it is the mean over whole answers. RLOO's is k1, GRPO's the k3
    estimate, which stands for both. Without a penalty (beta 0) there is no reference and both are 0. There are no
    values (``value_loss``, ``explained_variance``) and no ``approx_kl``: 0.
    """
    steps = _steps(history)
    epochs = settings.ppo.epochs
    answers = settings.prompts_per_update * settings.samples_per_prompt
    points: list[UpdatePoint] = []
    before = 0.0
    for start in range(0, len(steps) - epochs + 1, epochs):
        part = steps[start : start + epochs]
        # Answers are made, and logged, in an update's first optimizer step.
        first, last = part[0], part[-1]
        length = _number(first, "length")
        kl = _number(first, "kl") * length
        k3 = kl if settings.algorithm == "grpo" else 0.0
        points.append(
            UpdatePoint(
                update=len(points) + 1,
                episodes=(len(points) + 1) * answers,
                reward=_number(first, "reward"),
                kl=kl,
                kl_k3=k3,
                beta=settings.kl.beta,
                entropy=_number(first, "entropy"),
                policy_loss=_mean(part, "policy_loss" if "policy_loss" in first else "loss"),
                clip_fraction=_mean(part, "clip_ratio/region_mean"),
                optimizer_steps=len(part),
                gradient_norm=_mean(part, "grad_norm"),
                learning_rate=_number(last, "learning_rate"),
                length=length,
                unfinished=_number(first, "unfinished"),
                distinct_bigrams=_number(first, "distinct_bigrams"),
                tokens_per_second=answers * length / max(_number(last, "seconds") - before, 1e-9),
                **_NO_VALUES,
            )
        )
        before = _number(last, "seconds")
    return points


def paired_curve(history: History, *, episodes: int, beta: float, answers: Mapping[str, float]) -> list[UpdatePoint]:
    """Points of DPO, which learns from answers that the start gave before: they are the same at every point.

    There is no KL to the reference on answers of the policy's own, no clipping and no values: 0.

    Args:
        history: of the trainer.
        episodes: answers, all sampled before the first update.
        beta: of DPO's loss.
        answers: reward, length, unfinished and distinct_bigrams of the start's answers.
    """
    return [
        UpdatePoint(
            update=number,
            episodes=episodes,
            reward=answers["reward"],
            kl=0.0,
            kl_k3=0.0,
            beta=beta,
            entropy=_number(entry, "entropy"),
            policy_loss=_number(entry, "loss"),
            clip_fraction=0.0,
            optimizer_steps=1,
            gradient_norm=_number(entry, "grad_norm"),
            learning_rate=_number(entry, "learning_rate"),
            length=answers["length"],
            unfinished=answers["unfinished"],
            distinct_bigrams=answers["distinct_bigrams"],
            tokens_per_second=0.0,
            **_NO_VALUES,
        )
        for number, entry in enumerate(_steps(history), start=1)
    ]


def seconds_of(history: History) -> float:
    """What training took, in all calls."""
    return max((_number(entry, "seconds") for entry in history), default=0.0)


_NO_VALUES = {"value_loss": 0.0, "explained_variance": 0.0, "approx_kl": 0.0}


def _steps(history: History) -> list[Mapping[str, Any]]:
    """The entries of optimizer steps; the last entry of a history is a summary."""
    return [entry for entry in history if "loss" in entry]


def _number(entry: Mapping[str, Any], name: str) -> float:
    value = entry.get(name)
    # TRL writes None where there was no finite value; NaN is no JSON.
    return float(value) if value is not None and value == value else 0.0


def _mean(entries: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(_number(entry, name) for entry in entries) / len(entries)
