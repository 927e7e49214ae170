"""An MLflow server that goes away for a while, in the middle of work, or refuses who came second.

In: a call to MLflow. Out: its result, asked for again with growing pauses while the server does not answer, or at once
where two inserted the same; anything else that goes wrong is raised at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rewardloop.errors import RewardloopError

T = TypeVar("T")

PATIENCE_SECONDS = 90.0
"""How long one call is tried again: a server that is restarted, or moved to another node, is back by then."""
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 8.0
_RACES = 3


def is_outage(error: BaseException) -> bool:
    """Whether a server did not answer, or said that it cannot at the moment (5xx, a locked database)."""
    import requests
    from mlflow.exceptions import MlflowException, RestException

    for one in _causes(error):
        if isinstance(one, requests.HTTPError):
            if one.response is not None and one.response.status_code >= 500:
                return True
        elif isinstance(one, requests.RequestException | ConnectionError | TimeoutError):
            return True
        elif isinstance(one, MlflowException):
            # MLflow's own words for an error of its caller often have code 500 too, but never came from a server.
            remote = isinstance(one, RestException) or "API request to" in str(one.message)
            status: int = one.get_http_status_code()  # type: ignore[no-untyped-call]
            if one.error_code == "TEMPORARILY_UNAVAILABLE" or (remote and status >= 500):
                return True
    return False


def insist(what: str, call: Callable[[], T], *, patience_seconds: float = PATIENCE_SECONDS) -> T:
    """Result of ``call``, which may be called several times and says so.

    Args:
        what: the call in words, for the message that it is tried again.
        call: does not harm when it is done twice.
        patience_seconds: after which the outage is raised as it came.
    """
    import stamina

    last: list[BaseException] = []

    def transient(error: Exception) -> bool:
        last[:] = [error]
        return is_outage(error)

    for attempt in stamina.retry_context(
        on=transient,
        attempts=None,
        timeout=patience_seconds,
        wait_initial=_FIRST_PAUSE_SECONDS,
        wait_max=_LONGEST_PAUSE_SECONDS,
    ):
        with attempt:
            if attempt.num > 1:
                print(f"MLflow did not answer ({first_line(last[0])}): {what}, attempt {attempt.num}", flush=True)
            return call()
    raise AssertionError("stamina ends by a result or an exception")


def again_if_raced(call: Callable[[], T]) -> T:
    """Result of ``call``, which is done again where somebody else has just inserted the same.

    MLflow's stores look for datasets and aliases and then insert them, so of several at once all but one are refused;
    asked again, they find what they looked for.
    """
    from mlflow.exceptions import MlflowException

    for _ in range(_RACES):
        try:
            return call()
        except MlflowException as error:
            if not any(word in str(error).upper() for word in ("UNIQUE", "DUPLICATE")):
                raise
    return call()


@contextmanager
def outages_in_words(what: str, tracking_uri: str) -> Iterator[None]:
    """Turn an outage that outlasted our patience into a message for people; anything else passes.

    Raises:
        RewardloopError: MLflow did not come back; the message begins with ``what``.
    """
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        raise RewardloopError(
            f"{what}: MLflow at {tracking_uri} went away and did not come back in time ({first_line(error)}). Nothing "
            "was promoted. Once it answers, run again: it goes on from here"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
