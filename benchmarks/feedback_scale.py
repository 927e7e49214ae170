"""A million groups of feedback from file to pairs: seconds and memory of each stage, and how they grow.

    python -m benchmarks.feedback_scale [--groups 1000000] [--sizes 10000,100000] [--home FOLDER]

Every size is made once (K = 4 answers, 3 of 300 labelers of uneven reliability rank them, some bad rows are planted)
and kept in ``home``. Each stage runs in a process of its own, as in a pipeline; its memory is the most that the process
and those it starts held together. Then a batch of 1% is added to the largest corpus. The last line is one JSON object:
``seconds`` and ``peak_rss_gb`` of the largest size, ``exponent`` of the seconds from the smallest to the largest (and
``exponent_cpu`` of the processors' seconds, which other work on the machine hardly changes), the same by stage, and
``incremental_share``: seconds with the batch added over seconds from nothing.
"""

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

K, LABELERS_PER_GROUP, LABELERS = 4, 3, 300
_BAD_EVERY = 1_000
"""One line of so many is bad, in turn in one of a few ways."""
_CHUNK = 10_000
_KEY = b"the key of the benchmark's labelers"
_STAGES = ("ingest", "load_corpus", "validate_feedback", "build_preferences")
_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru")
_WORDS = [f"{one}{other}" for one in _SYLLABLES for other in _SYLLABLES]


def write_groups(path: Path, count: int, *, seed: int, first: int = 0) -> None:
    """Canonical JSON lines, seeded; the file appears when it is whole."""
    random = np.random.default_rng(seed)
    temporary = path.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as stream:
        for start in range(0, count, _CHUNK):
            stream.writelines(_lines(random, first + start, min(_CHUNK, count - start)))
    temporary.replace(path)


def _lines(random: np.random.Generator, first: int, count: int) -> list[str]:
    words = np.array(_WORDS)[random.integers(0, len(_WORDS), (count, 12 + 10 * K))]
    quality = random.standard_normal((count, 1, K))
    who = (
        random.integers(0, LABELERS, (count, 1)) + np.cumsum(random.integers(1, 90, (count, LABELERS_PER_GROUP)), 1)
    ) % LABELERS
    noise = (0.3 + who % 10 / 4)[:, :, None] * random.standard_normal((count, LABELERS_PER_GROUP, K))
    ranks = np.argsort(np.argsort(-(quality + noise), axis=2), axis=2) + 1
    found = []
    for row in range(count):
        number = first + row
        labels = [
            {
                "kind": "ranking",
                "labeler": f"worker-{who[row, place]}",
                "ranks": dict(zip("abcd", map(int, ranks[row, place]), strict=True)),
            }
            for place in range(LABELERS_PER_GROUP)
        ]
        texts = words[row]
        group = {
            "group_id": f"g{number}",
            "prompt": [{"role": "user", "content": f"{' '.join(texts[:12])} {number}?"}],
            "responses": [
                {"response_id": "abcd"[k], "content": f"{' '.join(texts[12 + 10 * k : 22 + 10 * k])} {k}"}
                for k in range(K)
            ],
            "labels": labels,
        }
        if number % _BAD_EVERY == _BAD_EVERY - 1:
            _spoil(group, number // _BAD_EVERY)
        found.append(json.dumps(group) + "\n")
    return found


def _spoil(group: dict[str, Any], way: int) -> None:
    """Two ways that the import sees, two that validation sees."""
    if way % 4 == 0:
        group["labels"][0]["ranks"]["a"] = 0
    elif way % 4 == 1:
        del group["responses"]
    elif way % 4 == 2:
        group["responses"][1]["content"] = group["responses"][0]["content"]
    else:
        group["responses"][2]["content"] += "\x07"


def stage(name: str, folder: Path, file: Path) -> None:
    """One stage on the store and the artifacts in ``folder``."""
    from rewardloop.config import Settings
    from rewardloop.feedback.store import FeedbackStore

    settings = Settings.model_validate(
        {
            "organization": "benchmark",
            "home": str(folder),
            "model": {"base": "random:tiny"},
            "store": {"url": str(folder / "store"), "max_read_bytes": 1 << 33},
        }
    )
    url = settings.store.url
    store = FeedbackStore.open(url)
    if name == "ingest":
        from rewardloop.feedback.ingest import ingest

        print(ingest([file], store, settings, key=_KEY).summary, flush=True)
    elif name == "load_corpus":
        from rewardloop.steps.load_corpus import load_corpus

        corpus = store.current_corpus()
        store.write_corpus(corpus)
        load_corpus(store=url, corpus_digest=corpus.digest, code_version="1", corpus=folder / "corpus")
    elif name == "validate_feedback":
        from rewardloop.steps.validate_feedback import validate_feedback

        validate_feedback(
            corpus=folder / "corpus", store=url, settings=settings.section("validation", "preferences"),
            code_version="1", validated=folder / "validated", data_docs=folder / "data_docs",
        )  # fmt: skip
    else:
        from rewardloop.steps.build_preferences import build_preferences

        build_preferences(
            validated=folder / "validated", store=url,
            settings=settings.section("preferences", "splits", "evaluation"),
            code_version="1", preferences=folder / "preferences",
        )  # fmt: skip


def run_stage(name: str, folder: Path, file: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak memory (GB) of a stage in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.feedback_scale",
        "--stage",
        name,
        "--home",
        str(folder),
        "--file",
        str(file),
    ]
    environment = os.environ | {"TMPDIR": str(folder)}
    before = os.times()
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment)  # noqa: S603  # this module itself
    peak = _Peak(process.pid)
    code = process.wait()
    seconds, after = time.monotonic() - started, os.times()
    peak.stop()
    if code:
        raise SystemExit(f"{name} failed with exit code {code}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    found = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_rss_gb": round(peak.most / 1e9, 3)}
    print(name, found, flush=True)
    return found


class _Peak:
    """Resident memory of a process and its children together, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self.most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self._thread.start()

    def _watch(self, pid: int) -> None:
        while not self._ended.wait(0.1):
            try:
                root = psutil.Process(pid)
                self.most = max(self.most, sum(one.memory_info().rss for one in (root, *root.children(recursive=True))))
            except psutil.Error:
                continue

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


def measure(groups: int, home: Path) -> dict[str, dict[str, float]]:
    """All stages on ``groups`` groups, from nothing."""
    file = home / f"groups-{groups}.jsonl"
    if not file.exists():
        write_groups(file, groups, seed=groups)
    folder = home / f"run-{groups}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return {name: run_stage(name, folder, file) for name in _STAGES}


def measure_more(groups: int, home: Path) -> dict[str, dict[str, float]]:
    """All stages again with a batch of 1% added to what ``measure`` left."""
    file = home / f"more-{groups}.jsonl"
    if not file.exists():
        write_groups(file, max(groups // 100, 100), seed=groups + 1, first=groups)
    folder = home / f"run-{groups}"
    for name in ("corpus", "validated", "data_docs", "preferences"):
        shutil.rmtree(folder / name)
    return {name: run_stage(name, folder, file) for name in _STAGES}


def main(
    groups: Annotated[int, typer.Option(help="Groups of the largest corpus.")] = 1_000_000,
    sizes: Annotated[str, typer.Option(help="Smaller corpora, for the exponent.")] = "10000,100000",
    home: Annotated[Path, typer.Option(help="Where corpora are kept, made on first use.")] = Path(
        ".rewardloop/benchmarks/feedback-scale"
    ),
    stage_name: Annotated[str, typer.Option("--stage", hidden=True)] = "",
    file: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    """Measure and print one JSON object as the last line."""
    home = home.resolve()
    if stage_name:
        stage(stage_name, home, file)
        return
    home.mkdir(parents=True, exist_ok=True)
    wanted = sorted({*(int(size) for size in sizes.split(",") if size), groups})
    found = {size: measure(size, home) for size in wanted}
    more = measure_more(groups, home)
    total = {size: sum(of["seconds"] for of in stages.values()) for size, stages in found.items()}
    cpu = {size: sum(of["cpu_seconds"] for of in stages.values()) for size, stages in found.items()}
    small, large = wanted[0], wanted[-1]
    spread = math.log(large / small) if large > small else math.nan
    result = {
        "groups": groups,
        "labels": groups * K * LABELERS_PER_GROUP,
        "seconds": round(total[large], 1),
        "cpu_seconds": round(cpu[large], 1),
        "peak_rss_gb": max(of["peak_rss_gb"] for of in found[large].values()),
        "exponent": round(math.log(total[large] / total[small]) / spread, 3),
        "exponent_cpu": round(math.log(cpu[large] / cpu[small]) / spread, 3),
        "incremental_share": round(sum(of["seconds"] for of in more.values()) / total[large], 3),
        "stages": {str(size): stages for size, stages in found.items()},
        "with_one_percent_more": more,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
