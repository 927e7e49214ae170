"""Real labels as ``FEEDBACK`` rows: the Stanford politeness corpus and UKPConvArg1.

In: the folder of a corpus, as its authors distribute it. Out: rows whose labelers are named and whose response ids are
unique, and the labelers' votes. Nothing is downloaded.
"""

import csv
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl

from rewardloop.records import FeedbackGroup
from rewardloop.tables import feedback_frame

_SCORES = 5


def politeness(folder: Path) -> pl.DataFrame:
    """Requests that one set of five workers rated are one group; ratings run from 1 to 25."""
    tasks: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for path in sorted(folder.glob("*.annotated.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                workers = tuple(sorted({row[f"TurkId{place}"] for place in range(1, _SCORES + 1)}))
                tasks.setdefault((path.stem, *workers), []).append(row)
    several = ((key[0], rows) for key, rows in tasks.items() if len(rows) > 1)
    return _frame(_task(number, file, rows) for number, (file, rows) in enumerate(several))


def ukpconvarg1(folder: Path) -> pl.DataFrame:
    """Pairs of arguments, each judged by five workers or so; "equal" is a tie."""
    return _frame(_argument_pairs(folder / "UKPConvArg1-full-XML.tar.gz"))


def length_only_accuracy(feedback: pl.DataFrame) -> float:
    """How often the longer answer has the majority of the votes, over decided pairs; equal lengths count one half."""
    lengths = (
        feedback.select(pl.col("responses").explode())
        .unnest("responses")
        .select("response_id", pl.col("content").str.len_chars().cast(pl.Int64).alias("length"))
        .unique("response_id")
    )
    decided = (
        votes(feedback)
        .group_by("a", "b")
        .agg(pl.col("vote").mean())
        .filter(pl.col("vote") != 0.5)
        .join(lengths, left_on="a", right_on="response_id")
        .join(lengths, left_on="b", right_on="response_id", suffix="_b")
    )
    longer = (decided["length"] - decided["length_b"]).sign() * (decided["vote"] - 0.5).sign()
    return float((0.5 + longer / 2).mean())  # type: ignore[arg-type]


def votes(feedback: pl.DataFrame) -> pl.DataFrame:
    """a, b (response ids, a before b), who, vote: 1 where ``who`` finds a better, one half for a tie."""
    values = (
        feedback.with_row_index("row")
        .select("row", "labels")
        .explode("labels")
        .with_row_index("label")
        .unnest("labels")
        .filter(criterion="overall")
        .explode("values")
        .unnest("values")
        .with_columns(pl.when(kind="ranking").then(-pl.col("value")).otherwise("value").alias("value"))
        .select("label", "response_id", "value", pl.col("labeler").alias("who"))
    )
    return (
        values.join(values.drop("who"), on="label", suffix="_b")
        .filter(pl.col("response_id") < pl.col("response_id_b"))
        .select(
            pl.col("response_id").alias("a"),
            pl.col("response_id_b").alias("b"),
            "who",
            ((pl.col("value") - pl.col("value_b")).sign() / 2 + 0.5).alias("vote"),
        )
    )


def only(feedback: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The rows with the labels of the labelers called ``names``; rows without any are left out."""
    theirs = pl.element().filter(pl.element().struct.field("labeler").is_in(list(names)))
    return feedback.with_columns(pl.col("labels").list.eval(theirs)).filter(pl.col("labels").list.len() > 0)


def in_order(pairs: pl.DataFrame, p: str) -> pl.DataFrame:
    """The same pairs with a before b; ``p`` is turned with them."""
    turned = pl.col("a") > pl.col("b")
    return pairs.select(
        pl.when(turned).then("b").otherwise("a").alias("a"),
        pl.when(turned).then("a").otherwise("b").alias("b"),
        pl.when(turned).then(1 - pl.col(p)).otherwise(p).alias(p),
    )


def _frame(groups: Iterator[dict[str, Any]]) -> pl.DataFrame:
    rows = ((f"real:{place}", FeedbackGroup.model_validate(group)) for place, group in enumerate(groups))
    return feedback_frame(rows).with_columns(batch=pl.lit("batch-1"))


def _task(number: int, file: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    scores: dict[str, dict[str, float]] = {}
    for place, row in enumerate(rows):
        for column in range(1, _SCORES + 1):
            scores.setdefault(row[f"TurkId{column}"], {})[f"{number}-{place}"] = float(row[f"Score{column}"])
    return {
        "group_id": str(number),
        "document_id": str(number),
        "responses": [
            {"response_id": f"{number}-{place}", "content": row["Request"]} for place, row in enumerate(rows)
        ],
        "labels": [{"kind": "rating", "labeler": who, "scores": given} for who, given in scores.items()],
        "segment": file,
    }


def _argument_pairs(archive: Path) -> Iterator[dict[str, Any]]:
    with tarfile.open(archive) as files:
        for member in files:
            stream = files.extractfile(member) if member.name.endswith(".xml") else None
            if stream is None:
                continue
            # The corpus is a file that the user names, not input from the network.
            for _, pair in ElementTree.iterparse(stream):  # noqa: S314
                if pair.tag == "annotatedArgumentPair":
                    yield _argument_pair(pair, Path(member.name).stem)
                    pair.clear()


def _argument_pair(pair: Any, debate: str) -> dict[str, Any]:
    name = f"{debate}/{pair.findtext('id')}"
    ranks = {"a1": (1, 2), "a2": (2, 1), "equal": (1, 1)}
    labels = {given.findtext("turkID"): ranks[given.findtext("value")] for given in pair.iterfind("mTurkAssignments/*")}
    ids = [f"{name}/{side}" for side in "ab"]
    return {
        "group_id": name,
        "prompt": [{"role": "user", "content": f"{pair.findtext('debateMetaData/title')} ({debate})"}],
        "responses": [
            {"response_id": one, "content": pair.findtext(f"{side}/text")}
            for one, side in zip(ids, ("arg1", "arg2"), strict=True)
        ],
        "labels": [
            {"kind": "ranking", "labeler": who, "ranks": dict(zip(ids, given, strict=True))}
            for who, given in labels.items()
        ],
    }
