"""Many questions to one judge, several at a time, from the cache where they were answered before.

In: questions. Out: for each its verdict, or why there is none. Whatever was answered is kept at once: who is killed, or
stops at the budget, goes on from there.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from rewardloop.judging.backends import Backend, UnanswerableError
from rewardloop.judging.cache import Answer, AnswerCache
from rewardloop.judging.limits import BudgetSpentError
from rewardloop.judging.questions import Question, Verdict, digest_of

UNREAD = "unreadable: the last line was not what was asked for"
CUT = "unreadable: the answer was cut off"


@dataclass
class Asked:
    """``verdicts``: one per question, None where there is none."""

    verdicts: list[Verdict | float | None]
    left_out: Counter[str] = field(default_factory=Counter)
    """Why a question has no verdict -> questions."""
    from_cache: int = 0
    """Answers that were there already."""
    again: int = 0
    """Answers that could not be read."""
    unasked: set[int] = field(default_factory=set)
    """Numbers of the questions that the budget left no room for."""


def ask_all(
    count: int,
    question: Callable[[int], Question],
    backend: Backend,
    cache: AnswerCache,
    *,
    ask_again: int,
    progress: Callable[[int], object] | None = None,
) -> Asked:
    """Ask every question, and again where its answer cannot be read.

    Args:
        count: of questions.
        question: makes the one of a number; many of them at once would hold every text many times.
        backend: who is asked.
        cache: where answers are kept.
        ask_again: how often at most.
        progress: told how many were done.

    Raises:
        RewardloopError: the judge cannot be asked at all; what was answered until then is in the cache.
    """
    asked = Asked([None] * count)
    lock, stop = threading.Lock(), threading.Event()
    numbers = iter(range(count))
    errors: list[BaseException] = []

    def work() -> None:
        """Ask until nothing is left, or somebody stops."""
        while not stop.is_set():
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                asked.verdicts[number] = _ask(question(number), backend, cache, ask_again, asked, lock)
            except UnanswerableError as reason:
                with lock:
                    asked.left_out[str(reason)] += 1
            except BudgetSpentError:
                with lock:
                    asked.unasked.add(number)
            except BaseException as error:  # of a thread: the caller raises it
                with lock:
                    errors.append(error)
                stop.set()
                backend.stop()
            if progress:
                with lock:
                    progress(1)

    # Daemons: whoever interrupts need not wait for requests on their way.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(backend.concurrent, count))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive() and not errors:
                thread.join(0.2)
    finally:
        stop.set()
        if errors or any(thread.is_alive() for thread in threads):
            backend.stop()
    if errors:
        raise errors[0]
    return asked


def _ask(
    question: Question, backend: Backend, cache: AnswerCache, again: int, asked: Asked, lock: threading.Lock
) -> Verdict | float:
    reason = UNREAD
    for _ in range(1 + again):
        digest = digest_of([backend.place, backend.identity, question.messages, question.stem, question.options])
        answer: Answer | None = cache.get(digest)
        if answer is None:
            answer = cache.keep(digest, backend.answer(question))
        else:
            with lock:
                asked.from_cache += 1
        # A line that was cut may say 1 where the judge meant 10.
        verdict = question.read(answer.text) if answer.cut is None else None
        if verdict is not None:
            return verdict
        reason = UNREAD if answer.cut is None else CUT
        with lock:
            asked.again += 1
        question = question.again(answer.text)
    raise UnanswerableError(reason)
