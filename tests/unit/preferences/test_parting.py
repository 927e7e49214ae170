"""Parts of a corpus: every row in the right one, and none that changes because of another batch."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import polars as pl

from rewardloop.preferences.parting import Plan, bundles, plan_parts
from rewardloop.snapshots import SnapshotBatch

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NOBODY: frozenset[int] = frozenset()


def batch(name: str, rows: int) -> SnapshotBatch:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return SnapshotBatch(digest=digest, file="", sha256="", rows=rows, ingested_at=NOW)


def documents(seed: int, count: int) -> pl.Series:
    return pl.Series(np.random.default_rng(seed).integers(0, 1 << 60, count), dtype=pl.Int64)


def keys(plan: Plan) -> set[str]:
    return {part.rows_key for part in plan.parts}


def test_a_bundle_ends_where_its_batches_say() -> None:
    small = [batch(f"b{number}", 10) for number in range(400)]
    found = bundles(small, 100)
    assert [place for bundle in found for place in bundle] == list(range(400))
    sizes = [10 * len(bundle) for bundle in found]
    assert 60 < np.mean(sizes) < 140
    assert max(sizes) <= 200
    # One more at the end leaves all bundles but the last; of one less at the beginning soon nothing is seen.
    longer = bundles([*small, batch("new", 10)], 100)
    assert longer[: len(found) - 1] == found[:-1]
    shorter = [[place + 1 for place in bundle] for bundle in bundles(small[1:], 100)]
    assert len([bundle for bundle in found if bundle not in shorter]) <= 3


def test_a_large_batch_stands_alone() -> None:
    assert bundles([batch("a", 5), batch("b", 1000), batch("c", 5)], 100)[1:2] == [[1]]


def test_another_batch_leaves_the_parts_that_are_there() -> None:
    batches, units = [batch("a", 1000), batch("b", 20)], [documents(1, 1000), documents(2, 20)]
    before = plan_parts(batches[:1], units[:1], NOBODY, 100)
    after = plan_parts(batches, units, NOBODY, 100)
    assert len(before.parts) == 10
    assert keys(before) < keys(after)
    assert sum(part.rows for part in after.parts) == 1020
    assert all(series.null_count() == len(series) for series in after.shared)
    assert {len(series) for series in after.own} == {1000, 20}


def test_documents_of_several_bundles_are_built_apart() -> None:
    first = documents(1, 1000)
    again = first.head(7)
    batches, units = [batch("a", 1000), batch("b", 107)], [first, pl.concat([again, documents(2, 100)])]
    plan = plan_parts(batches, units, NOBODY, 100)
    assert keys(plan_parts(batches[:1], units[:1], NOBODY, 100)) < keys(plan)
    pool = [number for number, part in enumerate(plan.parts) if part.name.startswith("shared")]
    assert sum(plan.parts[number].rows for number in pool) == 14
    assert plan.shared[0].head(7).is_in(pool).all()
    assert plan.shared[0].tail(993).null_count() == 993
    assert plan.shared[1].head(7).to_list() == plan.shared[0].head(7).to_list()
    assert set().union(*(part.hidden for part in plan.parts)) == set(again)
    assert sum(part.hidden_rows for part in plan.parts) == 14
    # Counted once, whichever part has it.
    assert sum(part.rows - part.hidden_rows for part in plan.parts) == 1107
    # The rows of the pool name it.
    other = plan_parts(batches, [first, pl.concat([first.slice(7, 7), documents(2, 100)])], NOBODY, 100)
    assert {plan.parts[number].rows_key for number in pool}.isdisjoint(keys(other))


def test_parts_of_which_much_is_shared_are_not_built_twice() -> None:
    first = documents(1, 400)
    plan = plan_parts([batch("a", 400), batch("b", 400)], [first, first], NOBODY, 100)
    assert {part.name.split("-")[0] for part in plan.parts} == {"shared"}
    assert sum(part.rows for part in plan.parts) == 800
    assert all(series.null_count() == 400 for series in plan.own)


def test_texts_without_prompt_are_one_part_and_golden_documents_name_theirs() -> None:
    first = documents(1, 300)
    texts = pl.Series([None] * 50, dtype=pl.Int64)
    batches = [batch("a", 300), batch("b", 50), batch("c", 50)]
    units = [first, texts, texts]
    plan = plan_parts(batches, units, NOBODY, 100)
    assert (plan.parts[0].name, plan.parts[0].rows, plan.parts[0].batches) == ("texts", 100, (1, 2))
    golden = plan_parts(batches, units, frozenset({first[0]}), 100)
    changed = [one.name for one, other in zip(plan.parts, golden.parts, strict=True) if one.golden != other.golden]
    assert len(changed) == 2
    assert changed[0] == "texts"
