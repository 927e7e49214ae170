"""Two halves of the training feedback: no document in both, all else as it was."""

from pathlib import Path

import polars as pl
import pytest

from rewardloop.training.halves import leave_half
from tests.preferences_tables import write_film_tables, write_tables
from tests.unit.preferences.feedback import choice, frame, group


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Single texts, compared within groups of four documents."""
    return write_film_tables(tmp_path_factory.mktemp("films"), 300)


def halves(preferences: Path, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    for half in ("candidate", "judge"):
        leave_half(preferences, folder / half, half)  # type: ignore[arg-type]
    candidate, judge = (pl.read_parquet(folder / half / "pairs.parquet") for half in ("candidate", "judge"))
    return candidate, judge


def documents(preferences: Path, pairs: pl.DataFrame) -> set[str]:
    items = pl.read_parquet(preferences / "items.parquet")["document"]
    train = pairs.filter(split="train")
    return set(items.gather(train["a"])) | set(items.gather(train["b"]))


def test_no_document_is_learnt_from_in_both(films: Path, tmp_path: Path) -> None:
    candidate, judge = halves(films, tmp_path)
    ours, theirs = documents(films, candidate), documents(films, judge)
    assert not ours & theirs
    whole = documents(films, pl.read_parquet(films / "pairs.parquet"))
    assert ours | theirs <= whole
    # About half of the documents each; a document whose partners are all in the other half is in neither.
    assert min(len(ours), len(theirs)) > 0.3 * len(whole)


def test_pairs_across_the_halves_are_in_neither(films: Path, tmp_path: Path) -> None:
    candidate, judge = (part.filter(split="train") for part in halves(films, tmp_path))
    whole = pl.read_parquet(films / "pairs.parquet").filter(split="train")
    assert len(candidate) + len(judge) < len(whole)
    assert len(pl.concat([candidate, judge]).join(whole, on=whole.columns, how="semi")) == len(candidate) + len(judge)
    assert candidate.join(judge, on=["a", "b"]).is_empty()


def test_what_nothing_is_learnt_from_stays_whole(films: Path, tmp_path: Path) -> None:
    given = (films / "pairs.parquet").read_bytes()
    before = pl.read_parquet(given).filter(pl.col("split") != "train")
    for pairs in halves(films, tmp_path):
        assert pairs.filter(pl.col("split") != "train").equals(before)
    for half in ("candidate", "judge"):
        assert (tmp_path / half / "items.parquet").read_bytes() == (films / "items.parquet").read_bytes()
    assert (films / "pairs.parquet").read_bytes() == given


def test_a_prompt_is_whole_and_stays_where_it_was(tmp_path: Path) -> None:
    """Answers to one prompt are one document: all its pairs are in the same half, also when more feedback comes."""
    groups = [group([f"good {i}", f"bad {i}", f"worse {i}"], [choice("a", "b"), choice("b", "c")], prompt=f"Q{i}")
              for i in range(60)]  # fmt: skip
    few = write_tables(tmp_path / "few", frame(groups[:30]))
    many = write_tables(tmp_path / "many", frame(groups))
    first, second = halves(few, tmp_path / "1"), halves(many, tmp_path / "2")
    total = len(pl.read_parquet(few / "pairs.parquet").filter(split="train"))
    assert sum(len(part.filter(split="train")) for part in first) == total > 0
    for before, after in zip(first, second, strict=True):
        assert documents(few, before) <= documents(many, after)
