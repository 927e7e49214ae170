"""rewardloop's scorer on the same texts, measured like the peer.

In (one JSON argument): ``Arguments``. Out: one JSON line with rows per second and peak memory, in float32 and, where
that is faster and changes no decision, in bfloat16. It runs where rewardloop is installed.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import peak_rss_bytes, report
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rewardloop.modeling.scoring import RewardScorer

_SCORING = {
    "template": "plain",
    "max_length": 2048,
    "truncation_side": "left",
    "scale": {"raw": [0.0, 1.0], "public": [0.0, 1.0]},
}
_FIXTURE = 16


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """``rows``: a JSONL file of {"prompt": ..., "response": ...}."""

    base: str
    rows: str
    tokens_per_batch: int = 2048


def measure(arguments: Arguments) -> dict[str, Any]:
    with Path(arguments.rows).open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    prompts = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    responses = [row["response"] for row in rows]
    model = AutoModelForSequenceClassification.from_pretrained(arguments.base, dtype="float32")
    scorer = RewardScorer(model, AutoTokenizer.from_pretrained(arguments.base), _SCORING)
    median = float(np.median(scorer.raw_scores(prompts[:_FIXTURE], responses[:_FIXTURE])))
    scorer.scoring["threshold"] = median  # the hardest place for a threshold: half of the rows on either side
    timed: dict[str, Any] = {}
    exact = _time(scorer, prompts, responses, arguments, timed, "float32")
    if scorer.allow_rounding({"prompts": prompts[:_FIXTURE], "responses": responses[:_FIXTURE]}):
        rounded = _time(scorer, prompts, responses, arguments, timed, "default")
        timed["changed_decisions"] = int((scorer.allowed(rounded) != scorer.allowed(exact)).sum())
        timed["largest_difference"] = float(np.abs(rounded - exact).max())
        scorer.scoring["threshold"] = None  # without a threshold nothing is computed a second time
        _time(scorer, prompts, responses, arguments, timed, "bfloat16")
    else:
        timed["default"] = timed["float32"]
    timed["spread"] = float(exact.std())
    return {"rows": len(rows), "peak_rss_bytes": peak_rss_bytes(), **timed}


def _time(
    scorer: RewardScorer,
    prompts: list[list[dict[str, str]]],
    responses: list[str],
    arguments: Arguments,
    timed: dict[str, Any],
    name: str,
) -> Any:
    scorer.raw_scores(prompts[:_FIXTURE], responses[:_FIXTURE])  # the first batch pays for allocations
    started = time.perf_counter()
    scores = scorer.raw_scores(prompts, responses, tokens_per_batch=arguments.tokens_per_batch)
    seconds = time.perf_counter() - started
    timed[name] = {"seconds": seconds, "rows_per_second": len(responses) / seconds}
    return scores


if __name__ == "__main__":
    report("rewardloop_scoring", measure(Arguments(**json.loads(sys.argv[1]))))
