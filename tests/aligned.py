"""What the steps of alignment leave, made once per session with tiny models, for tests of each of them.

People prefer letters to digits, and the reward model has learnt that; prompts are digits, and what a random policy puts
behind them, byte by byte, can get better within seconds. All is done under the settings of ``conf/smoke.yaml``.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

import numpy as np

from rewardloop.evidence import AlignmentEvidence, PolicyEvaluationEvidence, ReferencesEvidence
from rewardloop.feedback.text_sets import Kind, keep_text_set, read_text_set
from rewardloop.records import FeedbackGroup
from rewardloop.steps.align_policy import align_policy
from rewardloop.steps.evaluate_policy import evaluate_policy
from rewardloop.steps.evaluate_reward_model import evaluate_reward_model
from rewardloop.steps.generate_references import generate_references
from rewardloop.steps.train_reward_model import train_reward_model
from rewardloop.steps.train_sft import train_sft
from rewardloop.storage import Storage
from tests.preferences_tables import smoke_settings, write_tables
from tests.run_folders import preferences
from tests.unit.preferences.feedback import frame, group, rating

PROMPTS = [{"prompt": f"{place:02d} {place * 7919 % 1000:03d}"} for place in range(64)]


@dataclass(frozen=True)
class Aligned:
    """Folders as the steps leave them; tests write into folders of their own."""

    store: str
    prompts: str
    """Digest."""
    preferences: Path
    reward_model: Path
    evaluation: Path
    start: Path
    references: Path
    policy: Path
    policy_evaluation: Path

    def keep(self, path: Path, kind: Kind, rows: list[dict[str, Any]]) -> str:
        """Write rows as JSONL, put them into the store, and return their digest."""
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return keep_text_set(Storage.open(self.store), read_text_set(path, kind))

    def answer(self, out: Path, *overrides: str, **text_sets: str) -> ReferencesEvidence:
        """``generate_references`` into ``out``."""
        generate_references(
            start_policy=self.start,
            preferences=self.preferences,
            store=self.store,
            settings=smoke_settings(*overrides).section("align", "policy_evaluation"),
            text_sets=json.dumps({"prompts": self.prompts} | text_sets),
            code_version="1",
            references=out,
        )
        return read(ReferencesEvidence, out, "references")

    def align(self, out: Path, *overrides: str) -> AlignmentEvidence:
        """``align_policy`` into ``out``."""
        align_policy(
            start_policy=self.start,
            references=self.references,
            reward_model=self.reward_model,
            evaluation=self.evaluation,
            settings=smoke_settings(*overrides).section("align"),
            code_version="1",
            policy=out,
        )
        return read(AlignmentEvidence, out, "alignment")

    def evaluate(self, out: Path, *overrides: str, **text_sets: str) -> PolicyEvaluationEvidence:
        """``evaluate_policy`` into ``out``."""
        sections = ("align", "policy_evaluation", "evaluation", "model", "training")
        evaluate_policy(
            policy=self.policy,
            start_policy=self.start,
            references=self.references,
            reward_model=self.reward_model,
            evaluation=self.evaluation,
            preferences=self.preferences,
            store=self.store,
            settings=smoke_settings(*overrides).section(*sections),
            text_sets=json.dumps({"prompts": self.prompts} | text_sets),
            code_version="1",
            policy_evaluation=out,
        )
        return read(PolicyEvaluationEvidence, out, "policy_evaluation")


@cache
def make_aligned(folder: Path) -> Aligned:
    """Everything up to the policy's evaluation, in ``folder``."""
    names = ("preferences", "reward_model", "evaluation", "start", "references", "policy", "policy_evaluation")
    made = Aligned(store=str(folder / "store"), prompts="", **{name: folder / name for name in names})
    with _home(folder / "home"):
        folder.mkdir(parents=True)
        made = replace(made, prompts=made.keep(folder / "prompts.jsonl", "prompts", PROMPTS))
        write_tables(made.preferences, frame(_texts(300)))
        (made.preferences / "evidence").mkdir()
        (made.preferences / "evidence" / "preferences.json").write_text(preferences().model_dump_json())
        settings = smoke_settings()
        first = {"store": made.store, "champion": "", "tracking_uri": "", "code_version": "1"}
        train_reward_model(
            preferences=made.preferences,
            settings=settings.section("model", "training"),
            reward_model=made.reward_model,
            **first,
        )
        evaluate_reward_model(
            reward_model=made.reward_model,
            preferences=made.preferences,
            settings=settings.section("evaluation", "threshold"),
            evaluation=made.evaluation,
            **first,
        )
        train_sft(
            preferences=made.preferences,
            store=made.store,
            settings=smoke_settings("sft.when=never").section("model", "sft", "align"),
            text_sets=json.dumps({"prompts": made.prompts, "demonstrations": ""}),
            code_version="1",
            start_policy=made.start,
        )
        made.answer(made.references)
        made.align(made.policy, "align.evaluations=1", "align.learning_rate=1e-2", "align.schedule=constant")
        made.evaluate(made.policy_evaluation)
    return made


def _texts(count: int) -> list[FeedbackGroup]:
    """Twelve characters each, of which more are letters the better they are rated, from 0 to 6."""
    random = np.random.default_rng(0)
    texts = [
        "".join(
            random.permutation(
                [*random.choice(list(ascii_lowercase), 2 * good), *random.choice(list(digits), 12 - 2 * good)]
            )
        )
        for good in np.arange(count) % 7
    ]
    return [group([text], [rating(a=i % 7), rating(a=i % 7)], prompt=None) for i, text in enumerate(texts)]


def read(kind: type[Any], folder: Path, name: str) -> Any:
    """``evidence/<name>.json`` of a step's output."""
    return kind.model_validate_json((folder / "evidence" / f"{name}.json").read_bytes())


def produced(folder: Path, step: str) -> str:
    """What the step said about itself."""
    return str(json.loads((folder / "steps" / f"{step}.json").read_text(encoding="utf-8"))["produced"])


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    """Artifacts are made before any single test sets a home of its own."""
    before = os.environ.get("REWARDLOOP_HOME")
    os.environ["REWARDLOOP_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["REWARDLOOP_HOME"]
        else:
            os.environ["REWARDLOOP_HOME"] = before
