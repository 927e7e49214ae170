"""A corpus built with the help of what was kept is, byte for byte, the corpus built from nothing."""

import multiprocessing
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rewardloop.config import EvaluationSettings, PreferenceSettings, SplitSettings
from rewardloop.feedback.store_files import batch_digest
from rewardloop.kept import Kept
from rewardloop.preferences import parts
from rewardloop.preferences.build import build
from rewardloop.preferences.parts import LargePreferences
from rewardloop.records import FeedbackGroup, Message
from rewardloop.snapshots import Snapshot, hand_on, write_rows, write_snapshot
from rewardloop.storage import Storage
from tests.unit.preferences.crowd import crowd
from tests.unit.preferences.feedback import choice, frame, group, rated_texts
from tests.unit.preferences.test_parts import told

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GIVEN: dict[str, Any] = {"splits": SplitSettings(), "evaluation": EvaluationSettings(bootstrap_samples=100)}
Rows = tuple[str, pl.DataFrame]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LARGE", 1)
    monkeypatch.setattr(parts, "_PART", 40)


def asked(first: int, count: int, people: dict[str, int], seed: int = 0) -> list[FeedbackGroup]:
    """Pairs judged by a crowd, each with a prompt of its own."""
    groups = crowd(people, pairs=count, seed=seed).groups
    return [
        one.model_copy(
            update={
                "prompt": (Message(role="user", content=f"Question {first + place}?"),),
                "responses": tuple(
                    response.model_copy(update={"content": f"{response.content} {first}"}) for response in one.responses
                ),
            }
        )
        for place, one in enumerate(groups)
    ]


def batch(groups: Sequence[FeedbackGroup]) -> Rows:
    rows = frame(list(groups))
    return batch_digest(rows["record"].to_list()), rows


GOOD = {"good": 9, "random": 1}
A = batch([*asked(0, 160, GOOD), *rated_texts(40)])
# New prompts, more votes on answers of A, and other answers to a prompt of A.
AGAIN = [one.model_copy(update={"labels": one.labels[:1], "group_id": f"again {one.group_id}"})
         for one in asked(0, 160, GOOD, seed=5)[20:32]]  # fmt: skip
OTHER = group(
    ["another one", "one more"], [choice("a", "b", "good-1"), choice("a", "b", "good-2")], prompt="Question 7?"
)
B = batch([*asked(1000, 30, GOOD, seed=1), *AGAIN, OTHER])
# Sizes are such that the sample of A, B and C is that of A, B, C and up to 43 rows more.
C = batch([*asked(2000, 12, GOOD, seed=2), *rated_texts(46)[40:]])
D = batch(asked(3000, 20, GOOD, seed=3))


def corpus(folder: Path, batches: Sequence[Rows], half_life: float | None = None) -> Snapshot:
    rows = pl.concat([rows.with_columns(pl.lit(digest).alias("batch")) for digest, rows in batches])
    made = write_rows(folder, rows, NOW)
    aged = [
        one.model_copy(update={"ingested_at": NOW + timedelta(hours=7 * place)})
        for place, one in enumerate(made.batches)
    ]
    return write_snapshot(folder, aged, half_life)


class Place:
    """A store with kept results, and what was built with their help."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept, self.count = folder, Kept(Storage.open(str(folder / "store"))), 0

    def build(
        self,
        batches: Sequence[Rows],
        half_life: float | None = None,
        golden: frozenset[str] = frozenset(),
        change: Callable[[Snapshot, Path], Snapshot] = lambda snapshot, _: snapshot,
        **preferences: Any,
    ) -> tuple[bytes, bytes, LargePreferences]:
        self.count += 1
        here = self.folder / str(self.count)
        (here / "out").mkdir(parents=True)
        snapshot = change(corpus(here / "snapshot", batches, half_life), here / "changed")
        settings = PreferenceSettings.model_validate(preferences)
        built = parts.build_if_large(
            snapshot, self.kept, here / "work", here / "out", preferences=settings, golden=golden, **GIVEN
        )
        assert built is not None
        return (here / "out" / "items.parquet").read_bytes(), (here / "out" / "pairs.parquet").read_bytes(), built


@pytest.fixture
def places(tmp_path: Path) -> Callable[[], Place]:
    made: list[Place] = []

    def another() -> Place:
        made.append(Place(tmp_path / f"place-{len(made)}"))
        return made[-1]

    return another


@pytest.fixture
def built_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of the parts that were built, not taken from what is kept."""
    found: list[int] = []

    def counted(rows: pl.DataFrame, **given: Any) -> Any:
        found.append(len(rows))
        return build(rows, **given)

    monkeypatch.setattr(parts, "build", counted)
    return found


@pytest.mark.parametrize("half_life", [None, 3.0])
@pytest.mark.parametrize(
    "history",
    [
        [[A], [A, B], [A, B, C]],
        [[B, C], [C], [A, C]],
        [[D], [D, A], [A, B, C, D], [A, B]],
        [[C, B, A]],
        [[A, B, C]],
    ],
)
def test_history_does_not_matter(
    places: Callable[[], Place], history: list[list[Rows]], half_life: float | None
) -> None:
    fresh = places().build([A, B, C], half_life)
    place = places()
    for earlier in history:
        place.build(earlier, half_life)
    assert place.build([A, B, C], half_life) == fresh


def test_parts_with_shared_documents_give_what_one_look_gives(places: Callable[[], Place], tmp_path: Path) -> None:
    batches = [A, B, C, D]
    settings = {"reliability": {"method": "none"}}
    snapshot = corpus(tmp_path / "whole", batches)
    whole = build(
        snapshot.scan().collect(), preferences=PreferenceSettings.model_validate(settings), golden=frozenset(), **GIVEN
    )
    place = places()
    *_, found = place.build(batches, **settings)
    out = place.folder / "1" / "out"
    items, pairs = pl.read_parquet(out / "items.parquet"), pl.read_parquet(out / "pairs.parquet")
    assert items["item"].to_list() == list(range(len(items)))
    assert (items.schema, pairs.schema) == (whole.items.schema, whole.pairs.schema)
    groups = items.filter(pl.col("group") >= 0)
    assert groups["group"].n_unique() == groups["group"].max() + 1  # type: ignore[operator]
    assert groups.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
    inside = pairs.filter(pl.col("group") >= 0)
    for side in ("a", "b"):
        owner = inside.join(items.select("item", pl.col("group").alias("own")), left_on=side, right_on="item")
        assert owner["own"].to_list() == owner["group"].to_list()
    ours, theirs = told(items, pairs), told(whole.items, whole.pairs)
    numbers = ["p", "votes", "p_error"]
    assert ours.drop(numbers).equals(theirs.drop(numbers))
    for name in numbers:
        assert ours[name].to_list() == pytest.approx(theirs[name].to_list(), abs=1e-9)
    assert (found.left_out, found.groups_used) == (whole.left_out, whole.groups_used)
    assert found.groups_built == whole.items.filter(pl.col("group") >= 0)["group"].n_unique()
    split = [sorted((pair.votes_a, pair.votes_b, pair.ties)) for pair in found.divided]
    assert split == [sorted((pair.votes_a, pair.votes_b, pair.ties)) for pair in whole.divided]
    for line in found.splits:
        mine, compared = whole.items.filter(split=line.split), whole.pairs.filter(split=line.split)
        assert (line.items, line.documents, line.pairs) == (len(mine), mine["document"].n_unique(), len(compared))


def test_only_what_is_new_is_built(places: Callable[[], Place], built_rows: list[int]) -> None:
    place = places()
    place.build([A, B, C])
    assert sum(built_rows) > 200
    built_rows.clear()
    place.build([A, B, C])
    assert built_rows == []
    place.build([A, B, C, D])
    # The new batch, perhaps with small neighbours; never the 190 rows of the first.
    assert 20 <= sum(built_rows) <= 20 + len(B[1]) + len(C[1])


def test_documents_that_come_again_rebuild_themselves_alone(places: Callable[[], Place], built_rows: list[int]) -> None:
    place = places()
    place.build([A])
    built_rows.clear()
    few = batch([*AGAIN[:5], *asked(5000, 10, GOOD, seed=7)])
    place.build([A, few])
    assert sum(built_rows) <= 2 * 5 + 15  # five of A again with five new rows, and the batch itself


def test_decay_builds_nothing_again(places: Callable[[], Place], built_rows: list[int]) -> None:
    place = places()
    place.build([A, D], 3.0)
    before = pl.read_parquet(place.folder / "1" / "out" / "pairs.parquet")
    built_rows.clear()
    place.build([A, D, batch(asked(4000, 30, GOOD, seed=4))], 3.0)
    after = pl.read_parquet(place.folder / "2" / "out" / "pairs.parquet")
    assert sum(built_rows) <= 30 + 20
    assert after["weight"].max() == 1.0 == before["weight"].max()
    assert after["weight"].min() == pytest.approx(before["weight"].min() * 0.5 ** (7 / 24 / 3.0))  # type: ignore[operator]


@pytest.mark.parametrize(
    "change",
    [{"group_size": 4}, {"min_votes": 2}, {"reliability": {"method": "none"}}, {"acceptable_rating": 2.0}],
)
def test_other_settings_are_other_results(places: Callable[[], Place], change: dict[str, Any]) -> None:
    place = places()
    plain = place.build([A, B])
    changed = place.build([A, B], **change)
    assert changed[:2] != plain[:2]
    assert changed == places().build([A, B], **change)
    assert place.build([A, B]) == plain


def test_new_golden_documents_are_seen(places: Callable[[], Place]) -> None:
    place = places()
    place.build([A, B])
    golden = frozenset(A[1].filter(pl.col("prompt").list.len() > 0)["document"].unique().sort().head(3))
    found = place.build([A, B], golden=golden)
    assert found == places().build([A, B], golden=golden)
    items = pl.read_parquet(place.folder / "2" / "out" / "items.parquet")
    assert set(items.filter(split="golden")["document"]) == golden


def test_rows_that_do_not_count_change_their_batch(places: Callable[[], Place]) -> None:
    def without(snapshot: Snapshot, folder: Path) -> Snapshot:
        return hand_on(snapshot, folder, {B[0]: [0, 1, 2]})

    place = places()
    plain = place.build([A, B])
    fewer = place.build([A, B], change=without)
    assert fewer != plain
    assert fewer == places().build([A, B], change=without)


def test_what_is_damaged_is_made_again(places: Callable[[], Place]) -> None:
    place = places()
    plain = place.build([A, B])
    for path in sorted((place.folder / "store").rglob("*")):
        if path.is_file() and path.name != "entry.json":
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert place.build([A, B]) == plain
    for path in sorted((place.folder / "store").rglob("*.parquet")):
        path.unlink()
    assert place.build([A, B]) == plain


def test_newcomers_are_weighed_and_nobody_else_is(places: Callable[[], Place], built_rows: list[int]) -> None:
    place = places()
    *_, before = place.build([A, B, C])
    built_rows.clear()
    newest = batch(asked(6000, 40, {"good": 9, "reversed": 2}, seed=8))
    *_, after = place.build([A, B, C, newest])
    old, new = ({line.labeler: line for line in built.told.labelers} for built in (before, after))
    assert set(new) - set(old) == {"reversed-0", "reversed-1"}
    assert all(new[f"reversed-{number}"].weight < 0.5 for number in (0, 1))
    assert {name: new[name].weight for name in old} == {name: line.weight for name, line in old.items()}
    assert "2 of them only in the newest batches" in after.told.reliability
    assert sum(built_rows) <= 40 + len(B[1]) + len(C[1])
    assert place.build([A, B, C, newest]) == places().build([A, B, C, newest])


def test_the_sample_is_drawn_anew_as_the_corpus_grows(places: Callable[[], Place]) -> None:
    place = places()
    place.build([A])
    samples = sorted(one.key for one in place.kept.results() if one.kind == "labelers")
    few, many = batch(asked(3000, 12, GOOD, seed=3)), batch(asked(7000, 120, GOOD, seed=9))
    place.build([A, few])
    assert sorted(one.key for one in place.kept.results() if one.kind == "labelers") == samples
    grown = place.build([A, few, many])
    assert len([one for one in place.kept.results() if one.kind == "labelers"]) == 2
    assert grown == places().build([A, few, many])


def one_of_two(folder: Path, gate: Any) -> None:
    parts.LARGE, parts._PART = 1, 40
    place = Place(folder)
    place.count = multiprocessing.current_process()._identity[0] * 10  # type: ignore[attr-defined]
    gate.wait()
    found = place.build([A, B])
    (folder / f"{place.count}.items").write_bytes(found[0])
    (folder / f"{place.count}.pairs").write_bytes(found[1])


def test_two_processes_at_once(places: Callable[[], Place]) -> None:
    fresh, shared = places().build([A, B]), places()
    shared.folder.mkdir()
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(2)
    processes = [context.Process(target=one_of_two, args=(shared.folder, gate)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for kind, wanted in (("items", fresh[0]), ("pairs", fresh[1])):
        found = [path.read_bytes() for path in shared.folder.glob(f"*.{kind}")]
        assert found == [wanted, wanted]
    assert all(one.is_whole for one in shared.kept.results())
    assert shared.build([A, B]) == fresh
