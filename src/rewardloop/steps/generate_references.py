"""The start policy's answers to all prompts of alignment and evaluation, made ahead of time.

In: the start policy, the user's prompts, the preferences (whose prompts are left out). Out: ``references.parquet``
(``REFERENCES``). Answers are kept in the store by content, so that nothing is generated twice.
"""

import json
import os
from collections import Counter
from pathlib import Path

import polars as pl
from tqdm import tqdm

from rewardloop.config import AlignSettings, PolicyEvaluationSettings
from rewardloop.evidence import ReferencesEvidence
from rewardloop.feedback.text_sets import load_text_set
from rewardloop.modeling.policy import load_start
from rewardloop.steps.step_run import step_run
from rewardloop.storage import Storage
from rewardloop.training.alignment_prompts import draw_toxicity_prompts, place_prompts
from rewardloop.training.collapse import facts_of
from rewardloop.training.devices import choose_device
from rewardloop.training.hardware import keep_freed_memory
from rewardloop.training.policies import rounds_policy
from rewardloop.training.references import make_references, references_key


def generate_references(
    *,
    start_policy: Path,
    preferences: Path,
    store: str,
    settings: str,
    text_sets: str,
    code_version: str,
    references: Path,
) -> None:
    """Answer every prompt with the start policy.

    Args:
        start_policy: output of ``train_sft``.
        preferences: output of ``build_preferences``.
        store: URL of the feedback store, which holds the prompts and keeps the answers.
        settings: JSON with the sections ``align`` and ``policy_evaluation``.
        text_sets: JSON of digests by name: ``prompts`` and, where there are some, ``toxicity_prompts``.
        code_version: fingerprint of the code; part of the pipeline's cache key.
        references: output folder.
    """
    del code_version  # known to the cache, not to the work
    sections, sets = json.loads(settings), json.loads(text_sets)
    align = AlignSettings.model_validate(sections["align"])
    evaluation = PolicyEvaluationSettings.model_validate(sections["policy_evaluation"])
    with step_run("generate_references", inputs=[start_policy, preferences], output=references) as run:
        device = choose_device(align.device, "align.device")
        keep_freed_memory()
        cache = Path(os.environ.get("REWARDLOOP_HOME", ".rewardloop")) / "base-models"
        storage = Storage.open(store)
        rounded = rounds_policy(align, device)
        policy = load_start(start_policy, cache, device=device, rounded=rounded)
        prompts = load_text_set(storage, sets["prompts"])
        items = pl.read_parquet(preferences / "items.parquet", columns=["document"])
        placed = place_prompts(prompts, set(items["document"]), policy, align, evaluation)
        asked, left_out, given = placed.table, Counter(placed.left_out), prompts["key"].n_unique()
        if sets.get("toxicity_prompts"):
            others = load_text_set(storage, sets["toxicity_prompts"])
            drawn = draw_toxicity_prompts(others, policy, align, evaluation)
            asked, left_out = pl.concat([asked, drawn.table]), left_out + Counter(drawn.left_out)
            given += others["key"].n_unique()
        with tqdm(total=int(asked["samples"].sum()), desc="answering", unit="answer", mininterval=1) as bar:
            table, reused = make_references(
                asked,
                lambda: policy,
                align,
                storage,
                references_key(start_policy, cache, align, rounded=rounded),
                progress=bar.update,
            )
            seconds = float(bar.format_dict["elapsed"])
        table.write_parquet(references / "references.parquet")
        answers = table["response_ids"].to_list()
        facts = facts_of(answers, table["finished"].to_list(), [not text.strip() for text in table["response"]])
        counts = dict(asked.group_by("split").len().sort("split").rows())
        evidence = ReferencesEvidence(
            prompts_in=given,
            prompts={str(split): int(count) for split, count in counts.items()},
            left_out=dict(left_out),
            responses=len(table),
            reused=reused,
            tokens=int(table["tokens"].sum()),
            seconds=round(seconds, 3),
            mean_length=facts.length,
            unfinished=facts.unfinished,
            distinct_bigrams=facts.distinct_bigrams,
            encoding="plain" if policy.plain_text else "chat",
        )
        run.write("references", evidence)
        run.log({"responses": len(table), "reused": reused, "seconds": seconds, "mean_length": facts.length})
        run.produced = f"{len(table):,} answers to {len(asked):,} prompts" + (
            f", {reused:,} of them kept from before" if reused else ""
        )
