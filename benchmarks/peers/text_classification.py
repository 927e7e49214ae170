"""transformers' own pipeline for scoring texts with a reward model: rows per second at each batch size.

In (one JSON argument): ``Arguments``. Out: one JSON line with a list over batch sizes, the best of it, peak memory.
The pipeline takes the texts in the order of the file, pads each batch to its longest, and is timed from text to score.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import is_bfloat16, peak_rss_bytes, report, subset
from transformers import TextClassificationPipeline, pipeline


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """``texts``: a JSONL file of {"text": ...}; ``limit``: score a seeded subset of so many rows."""

    base: str
    texts: str
    batch_sizes: list[int]
    dtype: str = "float32"
    limit: int | None = None


def score(scorer: TextClassificationPipeline, texts: list[str], batch_size: int) -> None:
    for answer in scorer(texts, batch_size=batch_size, function_to_apply="none"):
        if not isinstance(answer["score"], float):
            raise TypeError(f"expected one score a text, got {answer!r}")


def main() -> None:
    arguments = Arguments(**json.loads(sys.argv[1]))
    with Path(arguments.texts).open(encoding="utf-8") as stream:
        texts = subset([json.loads(line)["text"] for line in stream], arguments.limit)
    dtype = torch.bfloat16 if is_bfloat16(arguments.dtype) else torch.float32
    scorer = pipeline("text-classification", model=arguments.base, dtype=dtype, device="cpu")
    lengths = [len(ids) for ids in scorer.tokenizer(texts)["input_ids"]]
    runs = []
    for size in arguments.batch_sizes:
        score(scorer, texts[:size], size)  # the first batch pays for allocations that no later batch pays for
        started, cpu_started = time.perf_counter(), time.process_time()
        score(scorer, texts, size)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
        runs.append(
            {
                "batch_size": size,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "rows_per_second": len(texts) / seconds,
                "tokens_processed": sum(len(batch) * max(batch) for batch in batches),
            }
        )
    report(
        "text_classification",
        {
            "rows": len(texts),
            "tokens_real": sum(lengths),
            "runs": runs,
            "best": max(runs, key=lambda run: run["rows_per_second"]),
            "peak_rss_bytes": peak_rss_bytes(),
            "dtype": arguments.dtype,
        },
    )


if __name__ == "__main__":
    main()
