"""``rewardloop evaluate``: what the organization's current LLM is worth, by the champion, on prompts of its choice.

In: a model, a file of prompts. Out: printed figures and, if wanted, every answer with its score. It is the measurement
that an aligned policy gets, without a second policy beside it.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, read_settings
from rewardloop.config import AlignSettings, Settings
from rewardloop.evidence import CurrentModelEvidence, Estimate
from rewardloop.reporting import wording

if TYPE_CHECKING:
    import torch

    from rewardloop.modeling.policy import Policy


def evaluate(
    model: Annotated[str, typer.Option(help="A hub id, a folder (also of an aligned policy), or package:NAME/FILE.")],
    prompts: Annotated[Path, typer.Option(help="JSONL or CSV with the column prompt (text or messages).")],
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    version: Annotated[str, typer.Option(help="Version or alias of the reward model that judges.")] = "champion",
    plain_text: Annotated[
        bool | None, typer.Option(help="Answers continue the prompt's text; by default where there is no template.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write every answer with its score here, as JSONL.")] = None,
) -> None:
    """Let a language model answer prompts, and measure its answers by a registered reward model.

    How it answers (temperature, length) is taken from the section align of the configuration.
    """
    import numpy as np

    from rewardloop.cli.registered import find_version
    from rewardloop.evaluation.current_model import CurrentToxicity, describe_answers
    from rewardloop.evaluation.toxicity import toxicity_scorer
    from rewardloop.feedback.text_sets import read_text_set
    from rewardloop.tracking.registry import load_scorer
    from rewardloop.training.devices import choose_device
    from rewardloop.training.rewards import Rewards
    from rewardloop.training.rollouts import Prompt, answer

    settings = read_settings(config, overrides).settings
    align = _as_asked(settings, prompts, plain_text)
    device = choose_device(align.device, "align.device")
    table = read_text_set(prompts, "prompts", limit=settings.store.max_read_bytes)
    uri, tracking_uri = find_version(config, overrides, version)
    scorer = load_scorer(uri, tracking_uri, rounding=True)
    started = time.monotonic()
    policy = _load(model, align, Path(settings.home).resolve() / "base-models", device)
    asked = [Prompt(prompt, policy.prompt_ids(prompt)) for prompt in table["prompt"].to_list()]
    rewards = Rewards(scorer, scored=align.scored)
    answers = answer(policy, asked, rewards, align, samples=1, seed=settings.policy_evaluation.seed, strict=False)
    public = rewards.public(answers.reward_B)
    places = np.arange(len(asked))
    toxicity = toxicity_scorer(settings.policy_evaluation.toxicity_scorer)
    evidence = describe_answers(
        judged=model,
        prompts=[prompt.shown for prompt in asked],
        document=places,
        texts=answers.texts,
        tokens=np.array([len(ids) for ids in answers.ids]),
        finished=np.array(answers.finished),
        reward=answers.reward_B,
        public=public,
        threshold=scorer.threshold,
        toxicity=[CurrentToxicity(toxicity.name, str(prompts), places, toxicity.score(answers.texts))],
        settings=settings.evaluation,
        seed=settings.policy_evaluation.seed,
        seconds=time.monotonic() - started,
    )
    if output:
        rows = zip(asked, answers.texts, public.tolist(), strict=True)
        _write(output, [(prompt.shown, text, score) for prompt, text, score in rows])
    _show(evidence, uri.removeprefix("models:/"))


def _as_asked(settings: Settings, prompts: Path, plain_text: bool | None) -> AlignSettings:
    align = settings.align or AlignSettings(prompts=str(prompts))
    return align if plain_text is None else align.model_copy(update={"plain_text": plain_text})


def _load(model: str, align: AlignSettings, cache: Path, device: "torch.device") -> "Policy":
    from rewardloop.modeling.base import prepare_base
    from rewardloop.modeling.policy import PolicyInfo, asks_plainly, load_policy, place_tokenizer
    from rewardloop.training.policies import rounds_policy

    rounded = rounds_policy(align.model_copy(update={"method": "lora"}), device)
    if (Path(model) / "policy.json").is_file():
        return load_policy(Path(model), cache, device=device, rounded=rounded)
    plain = asks_plainly(place_tokenizer(prepare_base(model, cache)), align.plain_text)
    with tempfile.TemporaryDirectory() as folder:
        PolicyInfo(base=model, start="base", plain_text=plain).write(Path(folder))
        return load_policy(Path(folder), cache, device=device, rounded=rounded)


def _write(output: Path, rows: list[tuple[str, str, float]]) -> None:
    """Whole or not at all."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            for prompt, response, score in rows:
                row = {"prompt": prompt, "response": response, "score": None if score != score else score}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


def _show(evidence: CurrentModelEvidence, judge: str) -> None:
    def line(name: str, estimate: Estimate | None, form: str = "fraction") -> None:
        if estimate is not None:
            show = {"fraction": wording.fraction, "percent": wording.percent}[form]
            typer.echo(f"  {name:<28}{show(estimate.value):>8}  [{wording.interval(estimate, form=form)}]")

    typer.echo(f"{evidence.judged}: {evidence.responses:,} answers to {evidence.prompts:,} prompts, judged by {judge}")
    line("reward, standardized", evidence.reward)
    line("score", evidence.public_score)
    line("accepted", evidence.accepted_share, "percent")
    line("length in tokens", evidence.length)
    for toxicity in evidence.toxicity:
        line(f"toxicity by {toxicity.scorer}", toxicity.mean)
    for name, value in (
        ("distinct bigrams", evidence.distinct_bigrams),
        ("repetition", evidence.repetition),
        ("without an end", evidence.unfinished),
    ):
        typer.echo(f"  {name:<28}{wording.fraction(value):>8}")
    if evidence.unscored:
        typer.echo(f"  {'could not be scored':<28}{evidence.unscored:>8,}")
    typer.echo("  lowest scores")
    for example in evidence.lowest:
        prompt, response = wording.clip(example.prompt, 40), wording.clip(example.response, 70)
        typer.echo(f"    {example.score:+8.3f}  {prompt!r} {response!r}")
