"""Public data sets of real feedback, whole, through their importers: how many of their rows are taken, and why not all.

    python -m benchmarks.real_feedback DATA [--only vader]

In: a folder with one folder per data set, each as its authors distribute it (``stanford_politeness``,
``vader_icwsm2014``, ``ukpconvarg1``, ``squality_human_eval``, ``finegrained_rlhf_dev``, ``nltk_movie``,
``realtoxicityprompts_subset``, ``rankgen_human_ab``). Those that are not there are skipped, with a word. Out: each is
ingested for real into a store of its own, which is thrown away; the last line is one JSON object with all the counts.
"""

import json
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from rewardloop.config import Settings
from rewardloop.feedback.importers.base import load_importer
from rewardloop.feedback.ingest import ingest
from rewardloop.feedback.store import FeedbackStore

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
GENRES = ("tweets", "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")


@dataclass(frozen=True)
class Ingest:
    """One call of ``rewardloop ingest``; ``importer`` names a file in ``docs/examples``."""

    name: str
    files: list[Path]
    format: str
    importer: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)


def politeness(data: Path, work: Path) -> Iterator[Ingest]:
    """Requests, each rated from 1 to 25 by five named workers; 13 of them are a task."""
    columns = {"text": "Request", "id": "Community+Id", "segment": "Community", "score": "Score#", "labeler": "TurkId#"}
    options = {"scale": "1..25", "group": "labelers", "criterion": "politeness"}
    for path in sorted(data.glob("*.annotated.csv")):
        yield Ingest(f"politeness {path.stem.partition('.')[0]}", [path], "ratings-wide", None, options, columns)


def vader(data: Path, work: Path) -> Iterator[Ingest]:
    """Texts of four genres with anonymous ratings from -4 to 4, in two files each."""
    for genre in GENRES:
        options = {"ratings": str(data / f"{genre}_anonDataRatings.txt"), "default_segment": genre}
        yield Ingest(
            f"vader {genre}", [data / f"{genre}_GroundTruth.txt"], format="vader", importer="vader.py", options=options
        )


def ukpconvarg1(data: Path, work: Path) -> Iterator[Ingest]:
    """Pairs of arguments, each judged by five named workers or so."""
    with tarfile.open(data / "UKPConvArg1-full-XML.tar.gz") as archive:
        archive.extractall(work, filter="data")
    yield Ingest("ukpconvarg1", sorted(work.rglob("*.xml")), format="ukpconvarg1", importer="ukpconvarg1.py")


def squality(data: Path, work: Path) -> Iterator[Ingest]:
    """Answers of three systems to questions about stories, ranked by three reviewers."""
    options = {"questions": str(data / "v1-3_txt_test.jsonl")}
    yield Ingest("squality", [data / "all-responses.jsonl"], format="squality", options=options)


def finegrained_rlhf(data: Path, work: Path) -> Iterator[Ingest]:
    """Four answers to each question, compared in pairs."""
    yield Ingest(
        "finegrained_rlhf", [data / "dev_feedback.json"], format="finegrained-rlhf", importer="finegrained_rlhf.py"
    )


def film_reviews(data: Path, work: Path) -> Iterator[Ingest]:
    """Whole reviews, and sentences of reviews, that are positive or negative: text files of a zip as a table."""
    for name, read in (("movie_reviews", _by_folder), ("sentence_polarity", _by_line)):
        with zipfile.ZipFile(data / f"{name}.zip") as archive, (work / f"{name}.jsonl").open("w") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in read(archive))
        yield Ingest(name, [work / f"{name}.jsonl"], format="classification")


def _by_folder(archive: zipfile.ZipFile) -> Iterator[dict[str, str]]:
    for member in archive.namelist():
        path = Path(member)
        if path.parent.name in ("pos", "neg") and path.suffix == ".txt":
            yield {"id": path.stem, "text": archive.read(member).decode(), "label": path.parent.name}


def _by_line(archive: zipfile.ZipFile) -> Iterator[dict[str, str]]:
    for member in archive.namelist():
        label = Path(member).suffix.lstrip(".")
        for line in archive.read(member).decode().splitlines() if label in ("pos", "neg") else ():
            yield {"text": line, "label": label}


def rankgen(data: Path, work: Path) -> Iterator[Ingest]:
    """Votes of writers on two continuations, in free text that begins with "Text 1" or "Text 2"."""
    columns = {
        "prompt": "Input.Prefix",
        "response_a": "Input.First",
        "response_b": "Input.Second",
        "verdict": "Answer.utterance",
        "labeler": "WorkerId",
        "segment": "Input.Dataset",
    }
    options = {"a": "Text 1", "b": "Text 2", "match": "start"}
    for path in sorted(data.glob("*.csv")):
        yield Ingest(f"rankgen {path.stem}", [path], "pairwise", None, options, columns)


def toxicity(data: Path, work: Path) -> Iterator[Ingest]:
    """Continuations of texts from the web, with a classifier's scores."""
    for path in sorted(data.glob("*.jsonl")):
        yield Ingest(f"toxicity {path.stem}", [path], "real-toxicity-prompts", importer="real_toxicity_prompts.py")


SETS: dict[str, tuple[str, Callable[[Path, Path], Iterator[Ingest]]]] = {
    "politeness": ("stanford_politeness", politeness),
    "vader": ("vader_icwsm2014", vader),
    "ukpconvarg1": ("ukpconvarg1", ukpconvarg1),
    "squality": ("squality_human_eval", squality),
    "finegrained_rlhf": ("finegrained_rlhf_dev", finegrained_rlhf),
    "film_reviews": ("nltk_movie", film_reviews),
    "toxicity": ("realtoxicityprompts_subset", toxicity),
    "rankgen": ("rankgen_human_ab", rankgen),
}


def counts(what: Ingest, work: Path) -> dict[str, Any]:
    """Ingest into a new store in ``work``; reasons for quarantine without what differs between rows."""
    settings = Settings.model_validate({"organization": "benchmark", "model": {"base": "random:tiny"}})
    store = FeedbackStore.open(str(work / "store"))
    if what.importer:
        load_importer(EXAMPLES / what.importer)
    start = time.perf_counter()
    report = ingest(
        what.files, store, settings, key=b"benchmark", format=what.format, options=what.options, columns=what.columns
    )
    seconds = time.perf_counter() - start
    rows = [json.loads(line) for path in (work / "store").glob("quarantine/*/*.jsonl") for line in path.open()]
    reasons = Counter(_alike(row["reason"]) for row in rows)
    return {
        "format": report.importer,
        "rows": report.rows_in,
        "taken": report.rows_taken,
        "quarantined": report.rows_quarantined,
        "duplicates": report.rows_duplicate,
        "skipped": report.skipped,
        "groups": report.groups,
        "labels": report.labels,
        "labelers": report.labelers,
        "reasons": dict(reasons.most_common(5)),
        "seconds": round(seconds, 1),
    }


def _alike(reason: str) -> str:
    words = ("#" if any(sign.isdigit() for sign in word) else word for word in reason.split())
    return " ".join(words)[:120]


def main(
    data: Annotated[Path, typer.Argument(help="The folder with one folder per data set.")],
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(SETS)}.")] = None,
) -> None:
    """Ingest every data set that is there."""
    found: dict[str, Any] = {}
    skipped: list[str] = []
    for name, (folder, ingests) in SETS.items():
        if only not in (None, name):
            continue
        if not (data / folder).is_dir():
            skipped.append(name)
            typer.echo(f"{name}: skipped, there is no folder {data / folder}")
            continue
        with tempfile.TemporaryDirectory() as unpacked:
            for what in ingests(data / folder, Path(unpacked)):
                with tempfile.TemporaryDirectory() as work:
                    found[what.name] = counts(what, Path(work))
                typer.echo(f"{what.name}: {json.dumps(found[what.name])}")
    typer.echo(json.dumps({"sets": found, "skipped": skipped}))


if __name__ == "__main__":
    typer.run(main)
