"""Evidence of the steps that make a policy: its start, the references, the alignment, and what it is worth.

A reward here is the reward model's raw score, standardized by the mean and spread of its validation responses; a KL is
of whole responses, in nats, at the sampling temperature.
"""

from typing import Literal

from pydantic import Field

from rewardloop.evidence.base import Estimate, Evidence
from rewardloop.evidence.reward_model import ScoredExample


# train_sft -----------------------------------------------------------------------------------------------------------
class SftEvidence(Evidence):
    """Which policy alignment starts from."""

    start: Literal["base", "sft"]
    base: str
    reason: str
    """Why supervised fine-tuning was done or not."""
    source: str = ""
    """Where the demonstrations come from, in words."""
    examples: int = 0
    left_out: dict[str, int] = Field(default_factory=dict)
    """Reason -> demonstrations."""
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: list[tuple[int, float]] = Field(default_factory=list)
    """(optimizer step, loss on the responses' tokens)."""
    validation_loss: float | None = None


# generate_references -------------------------------------------------------------------------------------------------
class ReferencesEvidence(Evidence):
    """prompts in = prompts used + prompts left out."""

    prompts_in: int
    prompts: dict[str, int]
    """train, validation, test and, where there is a file of them, toxicity -> prompts."""
    left_out: dict[str, int]
    """Reason -> prompts."""
    responses: int
    reused: int
    """Responses that were there from an earlier run."""
    tokens: int
    seconds: float
    mean_length: float
    """Tokens."""
    unfinished: float
    """Share of responses without an end."""
    distinct_bigrams: float
    encoding: Literal["chat", "plain"]


# align_policy --------------------------------------------------------------------------------------------------------
class UpdatePoint(Evidence):
    """One update: a set of rollouts and what was learnt from them."""

    update: int
    episodes: int
    """Since the beginning."""
    reward: float
    """Mean, with the penalty for missing ends, without the KL penalty."""
    kl: float
    """Mean over responses of the sum of log pi - log ref (k1)."""
    kl_k3: float
    """The same by the estimator that is never negative."""
    beta: float
    entropy: float
    """Of the next token, mean, in nats."""
    policy_loss: float
    value_loss: float
    explained_variance: float
    clip_fraction: float
    approx_kl: float
    """Per token, between the policy that answered and the updated one (k3)."""
    optimizer_steps: int
    """Fewer than planned where the update was ended on its KL."""
    gradient_norm: float
    learning_rate: float
    length: float
    """Mean tokens of a response."""
    unfinished: float
    distinct_bigrams: float
    tokens_per_second: float
    """Generated tokens, over everything that the update took."""


class ValidationRewardPoint(Evidence):
    """The policy on the validation prompts."""

    update: int
    reward: float
    kl: float
    length: float
    within_budget: bool


class SampleLine(Evidence):
    """A rollout to read."""

    update: int
    prompt: str
    response: str
    reward: float
    kl: float


class AlignmentEvidence(Evidence):
    """How the policy was aligned."""

    algorithm: Literal["ppo", "rloo", "grpo", "dpo"]
    base: str
    start: Literal["base", "sft"]
    method: Literal["lora", "full"]
    reward_model: str
    """Digest of its files."""
    scored: Literal["response", "text"]
    parameters: int
    trained_parameters: int
    value: str
    """What estimates values, in words; empty where the algorithm needs none."""
    prompts: int
    episodes: int
    updates: int
    best_update: int
    stopped: str
    """Why training ended before its last episode; empty where it did not."""
    resumed_from_update: int | None
    seconds: float
    generation_seconds: float
    tokens: int
    """Generated."""
    peak_memory_bytes: int
    precision: str
    device: str
    processes: int = 1
    """That aligned together."""
    reward_place: str
    """Device or URL of the reward model."""
    kl_budget: float
    seed: int
    curve: list[UpdatePoint] = Field(default_factory=list)
    validation: list[ValidationRewardPoint] = Field(default_factory=list)
    samples: list[SampleLine] = Field(default_factory=list)


# evaluate_policy -----------------------------------------------------------------------------------------------------
class Change(Evidence):
    """A mean before and after, and the paired difference."""

    before: Estimate
    after: Estimate
    difference: Estimate


class JudgeLine(Evidence):
    """Policy against reference on the same prompts, by one judge."""

    judge: str
    """In words."""
    wins: int
    ties: int
    losses: int
    win_rate: Estimate
    """Ties count one half."""
    tie_band: float
    """Largest difference of scores that is a tie."""
    gain: Estimate
    """Paired difference of the judge's scores, in spreads of its scores of the references."""


class ToxicityLine(Evidence):
    """From 0 to 1."""

    scorer: str
    prompts: str
    """Which prompts, in words."""
    change: Change


class PerplexityLine(Evidence):
    """Of texts that nobody generated: what was forgotten."""

    texts: str
    """Which texts, in words."""
    before: float
    after: float
    log_ratio: Estimate
    """Mean difference of the mean negative log-likelihood per token, paired over texts."""


class PolicySample(Evidence):
    """A held-out prompt with both responses."""

    prompt: str
    reference: str
    policy: str
    reference_reward: float
    policy_reward: float


class PolicyEvaluationEvidence(Evidence):
    """A policy beside its reference on held-out prompts that neither fine-tuning nor alignment saw."""

    judged: str
    """Whose answers, in words."""
    prompts: int
    responses: int
    unscored: int
    """Responses that the reward model could not score: left out with their counterparts."""
    reward: Change
    accepted_share: Change | None
    """By the certified threshold; None where there is none."""
    judges: list[JudgeLine]
    """The reward model first, then the second judge."""
    length_controlled_win_rate: float | None
    """By the reward model, at equal length; None where it cannot be told."""
    kl: Estimate
    gain_per_kl: float | None
    length: Change
    """Tokens."""
    distinct_unigrams: tuple[float, float]
    """Before and after."""
    distinct_bigrams: tuple[float, float]
    repetition: tuple[float, float]
    """Share of 4-grams inside a response that came before in it."""
    unfinished: tuple[float, float]
    toxicity: list[ToxicityLine]
    perplexity: PerplexityLine | None
    over_optimized: bool
    """The reward model's gain is surely above 0 and the second judge's surely below."""
    samples: list[PolicySample]
    seconds: float


class HumanComparison(Evidence):
    """What people said of a policy's answers beside the reference's."""

    policy: str
    """Digest of its files."""
    run_id: str
    prompts: int
    labels: int
    labelers: int | None
    wins: int
    ties: int
    losses: int
    win_rate: Estimate
    """Over prompts, ties count one half."""


# evaluate (of a current LLM) -----------------------------------------------------------------------------------------
class CurrentToxicityLine(Evidence):
    """From 0 to 1."""

    scorer: str
    prompts: str
    """Which prompts, in words."""
    mean: Estimate


class CurrentModelEvidence(Evidence):
    """The answers of a current LLM by themselves, where no policy stands beside it."""

    judged: str
    """Whose answers, in words."""
    prompts: int
    responses: int
    """Scored ones: everything below is of these."""
    unscored: int
    """Responses that the reward model could not score: left out."""
    reward: Estimate
    public_score: Estimate
    accepted_share: Estimate | None
    """By the certified threshold; None where there is none."""
    length: Estimate
    """Tokens."""
    distinct_unigrams: float
    distinct_bigrams: float
    repetition: float
    """Share of 4-grams inside a response that came before in it."""
    unfinished: float | None
    """Share of responses without an end; None where nobody knows."""
    toxicity: list[CurrentToxicityLine]
    highest: list[ScoredExample]
    """By the public score; labelled by what the threshold says."""
    lowest: list[ScoredExample]
    seconds: float
