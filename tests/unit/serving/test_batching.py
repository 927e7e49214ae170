"""Rows of several requests go through the model together, the queue is bounded, and a bad row fails alone."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from rewardloop.serving.batching import TOO_LONG, UNSCORED, Batcher, QueueFullError
from rewardloop.serving.models import ServedModel


class Lengths:
    """The score of a response is its length; it waits where it is told to, and notes what came together."""

    threshold: float | None = 3.0

    def __init__(self) -> None:
        self.scoring = {"threshold": self.threshold}
        self.batches: list[list[str]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.started = threading.Event()

    def raw_scores(self, prompts: list[Any], responses: list[str]) -> np.ndarray:
        self.batches.append(responses)
        self.started.set()
        assert self.may_go_on.wait(10)
        if "poison" in responses:
            raise RuntimeError("cannot read this")
        return np.array([np.nan if text == "long" else np.inf if text == "inf" else len(text) for text in responses])

    def public(self, raw: np.ndarray) -> np.ndarray:
        return raw


def run(
    use: Callable[[Batcher, Lengths, ServedModel], Coroutine[Any, Any, None]], queue: int = 8, **settings: Any
) -> Lengths:
    """Run ``use`` with a started batcher of four rows."""
    scorer = Lengths()
    scorer_: Any = scorer

    async def inside() -> None:
        batcher = Batcher(**({"max_batch": 4, "wait_seconds": 0.0, "queue": queue} | settings))
        batcher.start()
        try:
            await use(batcher, scorer, ServedModel(scorer_, "digest", "m/1", "1"))
        finally:
            scorer.may_go_on.set()
            await asyncio.to_thread(batcher.close)
            assert not batcher.alive

    asyncio.run(inside())
    return scorer


def ask(batcher: Batcher, model: ServedModel, *responses: str) -> "asyncio.Task[Any]":
    return asyncio.create_task(batcher.score(model, [[]] * len(responses), list(responses)))


async def held(batcher: Batcher, scorer: Lengths, model: ServedModel) -> "asyncio.Task[Any]":
    """A first request that is being scored until it may go on."""
    scorer.may_go_on.clear()
    first = ask(batcher, model, "first")
    await asyncio.to_thread(scorer.started.wait, 10)
    return first


def test_what_waits_is_scored_together_and_everybody_gets_his_own() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        first = await held(batcher, scorer, model)
        second, third = ask(batcher, model, "a", "bbb"), ask(batcher, model, "cccc")
        await asyncio.sleep(0)
        assert batcher.waiting == 3
        scorer.may_go_on.set()
        assert (await first).scores == [5]
        assert ((await second).scores, (await second).decisions) == ([1, 3], ["block", "accept"])
        assert ((await third).raw, (await third).errors) == ([4], [None])
        assert batcher.waiting == 0

    assert run(use).batches == [["first"], ["a", "bbb", "cccc"]]


def test_a_large_request_takes_turns_with_small_ones() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        first = await held(batcher, scorer, model)
        large = ask(batcher, model, "1", "2", "3", "4", "5", "6")
        small = ask(batcher, model, "s")
        await asyncio.sleep(0)
        scorer.may_go_on.set()
        await asyncio.gather(first, small)
        assert (await large).scores == [1] * 6

    assert run(use).batches == [["first"], ["1", "2", "3", "4"], ["s", "5", "6"]]


def test_a_full_queue_says_when_to_come_back() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        assert (await ask(batcher, model, "quick")).scores == [5]
        batcher._rate = 2.0  # rows a second
        scorer.started.clear()
        first = await held(batcher, scorer, model)
        waiting = ask(batcher, model, *"abcdefg")
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="try again in 4 s") as full:
            await batcher.score(model, [[], []], ["h", "i"])
        assert full.value.retry_after == 4  # seven rows at two a second
        eighth = ask(batcher, model, "h")
        await asyncio.sleep(0)
        scorer.may_go_on.set()
        await asyncio.gather(first, waiting, eighth)

    run(use)


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        assert (await ask(batcher, model, *["a"] * 20)).scores == [1] * 20

    run(use)


def test_rows_of_who_gave_up_leave_the_queue() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        first = await held(batcher, scorer, model)
        gone, stays = ask(batcher, model, "gone", "gone"), ask(batcher, model, "stays")
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gone, 0.01)
        assert batcher.waiting == 1
        scorer.may_go_on.set()
        await asyncio.gather(first, stays)

    assert run(use).batches == [["first"], ["stays"]]


def test_a_row_that_the_model_fails_on_fails_alone() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        first = await held(batcher, scorer, model)
        good, bad = ask(batcher, model, "good"), ask(batcher, model, "poison", "fine")
        await asyncio.sleep(0)
        scorer.may_go_on.set()
        await first
        assert ((await good).scores, (await good).errors) == ([4], [None])
        assert (await bad).scores == [None, 4]
        assert (await bad).decisions == ["block", "accept"]
        assert (await bad).errors == [f"{UNSCORED} (RuntimeError)", None]
        assert (await ask(batcher, model, "later")).scores == [5]

    run(use)


def test_what_is_no_number_is_null_and_never_allowed() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        scored = await batcher.score(model, [[], [], []], ["long", "inf", "four"])
        assert (scored.raw, scored.scores) == ([None, None, 4], [None, None, 4])
        assert scored.decisions == ["block", "block", "accept"]
        assert scored.errors == [TOO_LONG, UNSCORED, None]

    run(use)


def test_a_defect_of_the_scale_fails_its_batch_and_nothing_else() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        good, scorer.public = scorer.public, lambda raw: 1 / 0  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            await batcher.score(model, [[]] * 6, ["a"] * 6)
        assert batcher.waiting == 0
        scorer.public = good  # type: ignore[method-assign]
        assert (await ask(batcher, model, "later")).scores == [5]

    run(use)


def test_a_batch_is_of_one_model() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        other: Any = Lengths()
        newer = ServedModel(other, "other", "m/2", "2")
        first = await held(batcher, scorer, model)
        old, new, late = ask(batcher, model, "old"), ask(batcher, newer, "new"), ask(batcher, model, "late")
        await asyncio.sleep(0)
        scorer.may_go_on.set()
        await first
        assert [(await task).model.version for task in (old, new, late)] == ["1", "2", "1"]
        assert other.batches == [["new"]]

    assert run(use).batches == [["first"], ["old"], ["late"]]


def test_only_after_company_is_there_a_wait_for_more() -> None:
    async def use(batcher: Batcher, scorer: Lengths, model: ServedModel) -> None:
        started = time.monotonic()
        await ask(batcher, model, "alone")
        await ask(batcher, model, "alone")
        assert time.monotonic() - started < 4
        scorer.started.clear()
        first = await held(batcher, scorer, model)
        pair = [ask(batcher, model, "a"), ask(batcher, model, "b")]
        await asyncio.sleep(0)
        scorer.may_go_on.set()
        await asyncio.gather(first, *pair)
        # Now it waits for four rows, and for no longer than they need to come.
        four = [ask(batcher, model, "c")]
        await asyncio.sleep(0.05)
        four += [ask(batcher, model, text) for text in "def"]
        await asyncio.wait_for(asyncio.gather(*four), 4)

    assert run(use, wait_seconds=5.0).batches[-2:] == [["a", "b"], ["c", "d", "e", "f"]]
