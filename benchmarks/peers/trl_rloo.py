"""TRL's RLOOTrainer (TRL 1.16) on the prompts of ``trl_ppo.py``, with its reward, adapters and measurements.

In (one JSON argument): ``trl_ppo.Arguments``. Out: as ``trl_ppo.py``. RLOO has no value model: an episode's baseline is
the mean reward of the other samples of its prompt.
"""

from typing import Any

from datasets import Dataset
from transformers import Trainer
from trl import RLOOConfig, RLOOTrainer
from trl_ppo import Arguments, TextReward, measure


def make_rloo(arguments: Arguments, model: Any, tokenizer: Any, prompts: list[str], folder: str) -> Trainer:
    """An RLOOTrainer that takes as many optimizer steps on the episodes of an update as PPO does."""
    reward = TextReward(arguments.reward_model)

    def standardized(
        prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any
    ) -> list[float]:
        scores = reward([prompt + response for prompt, response in zip(prompts, completions, strict=True)]).tolist()
        return [
            score - (0 if tokenizer.eos_token_id in ids else arguments.missing_eos_penalty)
            for score, ids in zip(scores, completion_ids, strict=True)
        ]

    return RLOOTrainer(
        model=model,
        reward_funcs=standardized,
        args=RLOOConfig(
            **arguments.plain_settings(folder),
            max_steps=arguments.updates * arguments.epochs * arguments.minibatches,
            per_device_train_batch_size=arguments.batch // arguments.minibatches,
            gradient_accumulation_steps=1,
            steps_per_generation=arguments.minibatches,
            num_iterations=arguments.epochs,
            num_generations=arguments.samples_per_prompt,
            shuffle_dataset=False,  # the prompts come in PPO's order
            max_completion_length=arguments.max_new_tokens,
            temperature=arguments.temperature,
            beta=arguments.kl_coef,
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
        peft_config=arguments.lora,
    )


if __name__ == "__main__":
    measure("trl_rloo", make_rloo)
