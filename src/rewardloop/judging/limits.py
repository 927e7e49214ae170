"""How fast a judge may be asked, and what it may cost.

In: requests as they begin and end, from several threads. Out: pauses before requests, and a stop before the budget
would be exceeded.
"""

import threading
import time
from typing import NamedTuple

_MILLION = 1_000_000


class BudgetSpentError(Exception):
    """The next request could cost more than is left."""


class Usage(NamedTuple):
    """Tokens of a request that was answered; None where the endpoint does not tell."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class Pace:
    """At most so many requests a minute, evenly spaced; everybody waits where the endpoint asks one to."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when the next request may start."""
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + self._interval
        time.sleep(max(0.0, start - time.monotonic()))

    def pause(self, seconds: float) -> None:
        """No request starts for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Budget:
    """Tokens and their price. A request reserves the most it can cost, so that requests on their way cannot exceed
    the budget together; what it did cost replaces that."""

    def __init__(self, price_input: float | None, price_output: float | None, max_cost: float | None) -> None:
        self.priced = price_input is not None and price_output is not None
        self._prices = (price_input or 0.0, price_output or 0.0)
        self._max_cost = max_cost
        self._reserved = 0.0
        self._condition = threading.Condition()
        self.cost = 0.0
        self.input_tokens = self.output_tokens = 0
        self.requests = 0

    def reserve(self, input_tokens: int, output_tokens: int) -> float:
        """Set aside what a request of at most so many tokens costs.

        Raises:
            BudgetSpentError: it does not fit, and nothing is on its way that may turn out cheaper.
        """
        most = self._price(input_tokens, output_tokens)
        with self._condition:
            while self._max_cost is not None and self.cost + self._reserved + most > self._max_cost:
                if self._reserved <= 0:
                    raise BudgetSpentError
                self._condition.wait()
            self._reserved += most
        return most

    def release(self, reserved: float, used: Usage | None, most: tuple[int, int]) -> None:
        """Book what an answer cost, also one that is no good; where its tokens are not told, the ``most`` they can be.
        None: no answer came."""
        with self._condition:
            self._reserved = max(0.0, self._reserved - reserved)
            if self._reserved < 1e-12:  # sums of what came and went are not exact
                self._reserved = 0.0
            if used is not None:
                read = most[0] if used.input_tokens is None else used.input_tokens
                written = most[1] if used.output_tokens is None else used.output_tokens
                self.input_tokens += read
                self.output_tokens += written
                self.cost += self._price(read, written)
                self.requests += 1
            self._condition.notify_all()

    def _price(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self._prices[0] + output_tokens * self._prices[1]) / _MILLION
