"""Decide which policy alignment starts from: the base, or the base after supervised fine-tuning.

In: preferences, and sets of texts in the store. Out: ``policy.json`` (base and how it is asked) and, when it was
fine-tuned, ``model/`` (float32 safetensors and tokenizer).
"""

import json
import os
import shutil
from pathlib import Path

import polars as pl
import torch
from filelock import FileLock
from tqdm import tqdm

from rewardloop.config import AlignSettings, ModelSettings, SftSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import SftEvidence
from rewardloop.feedback.text_sets import load_text_set
from rewardloop.modeling.base import prepare_base
from rewardloop.modeling.policy import PolicyInfo, asks_plainly
from rewardloop.steps.step_run import StepRun, step_run
from rewardloop.storage import Storage
from rewardloop.training.demonstrations import Selected, preferred_responses, select
from rewardloop.training.devices import choose_device
from rewardloop.training.sft import Demonstration, SftResult, fit_sft
from rewardloop.training.work import work_digest

_TOO_LONG = "longer than sft.max_length"


def train_sft(
    *, preferences: Path, store: str, settings: str, text_sets: str, code_version: str, start_policy: Path
) -> None:
    """Write the start policy; a killed fine-tuning goes on from its last checkpoint.

    Args:
        preferences: output of ``build_preferences``.
        store: URL of the feedback store, for the sets of texts.
        settings: JSON with the sections ``model``, ``sft`` and ``align``.
        text_sets: JSON of digests: ``demonstrations`` (or empty) and ``prompts``, those that the policy is aligned on.
        code_version: fingerprint of the code; with the data and the settings it names the checkpoint.
        start_policy: output folder.
    """
    sections, sets = json.loads(settings), json.loads(text_sets)
    sft = SftSettings.model_validate(sections["sft"])
    align = AlignSettings.model_validate(sections["align"])
    base = align.policy or ModelSettings.model_validate(sections["model"]).base
    home = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop"))
    with step_run("train_sft", inputs=[preferences], output=start_policy) as run:
        from transformers import AutoTokenizer

        place = prepare_base(base, home / "base-models")
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        plain_text = asks_plainly(tokenizer, align.plain_text)
        wanted, reason = _decide(sft, has_template=bool(tokenizer.chat_template))
        if wanted:
            tables = [preferences / "items.parquet", preferences / "pairs.parquet"]
            digest = work_digest(tables, base, sections["sft"], plain_text, sets, code_version)
            work = home / "work" / "train_sft" / digest
            work.parent.mkdir(parents=True, exist_ok=True)
            selected, source = _demonstrations(preferences, Storage.open(store), sets, sft, plain_text=plain_text)
            # Two runs of the same data and settings would write the same checkpoints.
            with FileLock(work.with_suffix(".lock")):
                device = choose_device(align.device, "align.device")
                result = _fit(place, selected, sft, work, start_policy / "model", plain_text=plain_text, device=device)
                shutil.rmtree(work, ignore_errors=True)
            evidence = _evidence(base, reason, source, selected, result)
        else:
            evidence = SftEvidence(start="base", base=base, reason=reason)
        generation = align.generation
        PolicyInfo(
            base=base,
            start=evidence.start,
            plain_text=plain_text,
            temperature=generation.temperature,
            max_new_tokens=generation.max_new_tokens,
        ).write(start_policy)
        _report(run, evidence)


def _decide(settings: SftSettings, *, has_template: bool) -> tuple[bool, str]:
    if settings.when == "auto":
        if has_template:
            return False, "the base's tokenizer has a chat template: it has learnt to answer already"
        return True, "the base's tokenizer has no chat template: it has not learnt to answer yet"
    return settings.when == "always", f"sft.when: {settings.when}"


def _demonstrations(
    preferences: Path, storage: Storage, sets: dict[str, str], settings: SftSettings, *, plain_text: bool
) -> tuple[Selected, str]:
    items = pl.read_parquet(preferences / "items.parquet")
    rl_prompts = load_text_set(storage, sets["prompts"])["key"].to_list() if sets.get("prompts") else []
    without: dict[str, int] = {}
    if sets.get("demonstrations"):
        found = load_text_set(storage, sets["demonstrations"])
        source = f"the file {settings.demonstrations}" if settings.demonstrations else "the given demonstrations"
    else:
        found, without = preferred_responses(items, pl.read_parquet(preferences / "pairs.parquet"))
        source = "the preferred responses of the training split"
        if found.is_empty():
            raise BadInputError(
                f"sft.demonstrations: none, and no response of the training split is preferred to another ({without}); "
                "give a file of demonstrations, or set sft.when to never"
            )
    selected = select(found, items, settings, rl_prompts=rl_prompts, plain_text=plain_text)
    return selected._replace(left_out=without | selected.left_out), source


def _fit(
    base: str,
    selected: Selected,
    settings: SftSettings,
    work: Path,
    output: Path,
    *,
    plain_text: bool,
    device: torch.device,
) -> SftResult:
    train, validation = (
        [Demonstration(row["prompt"], row["response"]) for row in part.iter_rows(named=True)]
        for part in (selected.train, selected.validation)
    )
    with tqdm(desc="fine-tuning", unit="step", mininterval=1) as bar:

        def show(step: int, steps: int, loss: float) -> None:
            bar.total = steps
            bar.update(step - bar.n)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

        return fit_sft(
            base,
            train,
            validation,
            settings,
            plain_text=plain_text,
            checkpoints=work / "training",
            output=output,
            device=device,
            each_step=show,
        )


def _evidence(base: str, reason: str, source: str, selected: Selected, result: SftResult) -> SftEvidence:
    return SftEvidence(
        start="sft",
        base=base,
        reason=f"{reason}; examples were read {result.rows}",
        source=f"{source}; {len(selected.validation)} of them for the validation loss only",
        examples=result.examples,
        left_out=selected.left_out | ({_TOO_LONG: result.too_long} if result.too_long else {}),
        steps=result.steps,
        tokens=result.tokens,
        seconds=result.seconds,
        loss=result.loss,
        validation_loss=result.validation_loss,
    )


def _report(run: StepRun, evidence: SftEvidence) -> None:
    run.write("sft", evidence)
    if evidence.start == "base":
        run.produced = f"starts from the base: {evidence.reason}"
        return
    loss = evidence.validation_loss
    run.produced = f"{evidence.examples:,} demonstrations in {evidence.steps:,} steps" + (
        f", validation loss {loss:.3f}" if loss is not None else ""
    )
    metrics = {name: float(getattr(evidence, name)) for name in ("examples", "steps", "tokens", "seconds")}
    run.log(metrics | ({"validation_loss": loss} if loss is not None else {}), {"train_loss": evidence.loss})
