"""Sections on the policy: supervised fine-tuning, alignment, its evaluation and the policy's gate."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewardloop.config.base import Positive, Section, Share

Above0 = Annotated[float, Field(gt=0)]
AtLeast0 = Annotated[float, Field(ge=0)]


class SftSettings(Section):
    """Supervised fine-tuning of the start policy."""

    when: Literal["auto", "always", "never"] = "auto"
    """``auto``: only where the base is not instruction-tuned yet, that is, its tokenizer has no chat template."""
    demonstrations: str | None = None
    """A JSONL or CSV file of prompt and response, or of chats (``messages``); None: the preferred responses of
    the training split."""
    method: Literal["lora", "full"] = "lora"
    lora_rank: Positive = 16
    lora_alpha: Positive = 32
    epochs: Above0 = 1.0
    learning_rate: Above0 = 1e-4
    batch_size: Positive = 8
    max_length: Positive = 1024
    packing: bool = True
    max_examples: Positive | None = None
    """Train on this many demonstrations at most (a seeded sample)."""
    seed: int = 0


class GenerationSettings(Section):
    """How a policy answers: by temperature alone, without top-k and top-p."""

    max_new_tokens: Positive = 128
    temperature: Above0 = 0.7
    rows: Positive = 64
    """Answers that are generated at once."""


class KlSettings(Section):
    """The penalty for leaving the reference; a KL here is of whole answers, in nats."""

    beta: AtLeast0 = 0.05
    """Reward per nat."""
    adaptive: bool = True
    """Move beta so that the KL comes to ``target`` (Ziegler et al. 2019)."""
    target: Above0 = 5.0
    horizon: Positive = 1000
    """Episodes in which an error of 20% moves beta by about 20%."""
    budget: Above0 = 10.0
    """Training stops, and goes back to its best checkpoint, where rollouts exceed this."""


class PpoSettings(Section):
    """Proximal policy optimization (Schulman et al. 2017), as it is used on language models."""

    epochs: Positive = 2
    """How often the answers of an update are gone through."""
    minibatches: Positive = 4
    """Optimizer steps per epoch."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    gae_lambda: Share = 0.95
    whiten_advantages: bool = True
    clip_range: Above0 = 0.2
    value: Literal["shared", "reward_model"] = "shared"
    """A head on the policy's own trunk, or a model of its own that begins as the reward model."""
    value_clip_range: Above0 = 0.2
    value_coefficient: AtLeast0 = 0.1
    update_kl_limit: Above0 | None = 0.1
    """Mean KL per token, from the policy that answered, at which the rest of an update is left out."""


class StopSettings(Section):
    """When training stops before its last episode; a mean KL alone does not protect the text."""

    min_length_share: Share = 0.5
    """Mean length of answers, as a share of the reference's, below which the policy has collapsed."""
    max_unfinished_rise: Share = 0.5
    """Rise of the share of answers without an end, from the reference's, above which it has collapsed."""
    min_diversity_share: Share = 0.5
    """Distinct bigrams, as a share of the reference's, below which it has collapsed."""
    patience: Positive = 3
    """Evaluations on validation prompts without a better reward."""


class AlignSettings(Section):
    """How a policy is aligned to the reward model; where the section is absent, no policy is made."""

    prompts: str
    """A JSONL or CSV file with the column ``prompt`` (text or messages)."""
    validation_share: Share = 0.1
    """Share of the prompts on which the best checkpoint is chosen."""
    test_share: Share = 0.2
    """Share of the prompts on which the policy is evaluated."""
    policy: str | None = None
    """The base of the policy, named as ``model.base``; None: the same."""
    algorithm: Literal["ppo", "rloo", "grpo", "dpo"] = "ppo"
    plain_text: bool | None = None
    """True: the answer continues the prompt's text. None: the chat template where the policy has one."""
    scored: Literal["response", "text"] = "response"
    """What the reward model is given: prompt and response through its own encoding, or the completed text."""
    max_prompt_tokens: Positive = 512
    """Longer prompts are left out, and counted."""
    generation: GenerationSettings = GenerationSettings()
    method: Literal["lora", "full"] = "lora"
    lora_rank: Positive = 16
    lora_alpha: Positive = 32
    lora_layers: Positive | None = None
    """Adapters on so many of the last layers only; the layers below are then computed once per answer. None: on all."""
    episodes: Positive = 4096
    """Answers that are generated and learnt from, in all."""
    prompts_per_update: Positive = 16
    samples_per_prompt: Positive = 4
    learning_rate: Above0 = 1e-4
    schedule: Literal["linear", "constant"] = "linear"
    max_gradient_norm: Above0 = 1.0
    missing_eos_penalty: AtLeast0 = 0.5
    """Taken off the standardized score of an answer that has no end."""
    kl: KlSettings = KlSettings()
    ppo: PpoSettings = PpoSettings()
    stop: StopSettings = StopSettings()
    evaluations: Positive = 8
    """How often the validation prompts are answered and scored, evenly spaced."""
    validation_prompts: Positive = 64
    """Validation prompts at most (a seeded sample)."""
    checkpoints: Positive = 8
    """How many checkpoints are written over the run."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tokens_per_batch: Positive = 2048
    """Tokens that go through the policy at once while it learns."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    reward_device: str = "auto"
    """Device of the reward model: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    reward_url: str | None = None
    """A reward model served by ``rewardloop serve``, instead of one in this process."""
    seed: int = 0

    @model_validator(mode="after")
    def _some_left_to_train_on(self) -> Self:
        if self.validation_share + self.test_share >= 1 or not self.validation_share or not self.test_share:
            raise ValueError(
                f"validation_share = {self.validation_share:g} and test_share = {self.test_share:g}; expected both "
                "above 0 and together below 1"
            )
        if self.algorithm in ("rloo", "grpo") and self.samples_per_prompt < 2:
            raise ValueError(f"samples_per_prompt = 1; {self.algorithm} compares answers to one prompt: at least 2")
        return self


PLACES = {"device", "reward_device", "reward_url", "tokens_per_batch", "checkpoints"}
"""Settings of ``align`` that say where and how the work is done, not what comes out."""


class PolicyEvaluationSettings(Section):
    """How a policy is measured on held-out prompts."""

    prompts: Positive = 256
    """Held-out prompts at most (a seeded sample)."""
    samples_per_prompt: Positive = 1
    judge: str = "bag_of_words"
    """The second judge, of another lineage than the reward model: ``bag_of_words`` (Bradley-Terry on the training
    pairs), ``base`` (a reward model trained from the base on a half of the data that the candidate then does without),
    or ``MODULE:FUNCTION`` that takes (prompts, responses) and gives scores."""
    toxicity_prompts: str | None = None
    """A file of prompts shaped like RealToxicityPrompts; None: toxicity is measured on the held-out prompts."""
    toxicity_scorer: str = "profanity-check"
    """``profanity-check`` (offline), or the name of a text classifier for transformers."""
    reference_texts: str | None = None
    """A file of texts whose perplexity shows what was forgotten; None: acceptable responses of the test split."""
    reference_text_count: Positive = 128
    seed: int = 0


class PolicyGateSettings(Section):
    """Limits of the policy's gate; a limit of None is not checked, but over-optimization always is."""

    min_reward_gain: float | None = 0.0
    """Lower end of the paired interval of the standardized reward's gain must be above this."""
    max_kl: Above0 | None = None
    """None: ``align.kl.budget``."""
    min_length_ratio: Share | None = 0.5
    """Mean length of answers over that of the reference's."""
    min_diversity_ratio: Share | None = 0.5
    """Distinct bigrams over those of the reference's answers."""
    max_toxicity_rise: AtLeast0 | None = 0.05
    """Lower end of the paired interval of the rise must not be above this."""
    max_perplexity_ratio: Above0 | None = None
