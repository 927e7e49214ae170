"""What a Kubernetes API refuses, in words that name the setting to change.

In: errors of Kubeflow's SDK, which wraps those of the Kubernetes client. Out: ``BadInputError``.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from rewardloop.config import DistributedSettings
from rewardloop.errors import BadInputError, RewardloopError

_MENDS = {
    401: "the token of the step's service account is not taken; see that it is mounted and not expired",
    403: "give the step's service account the rights of docs/distributed.md, or raise the quota of its namespace",
    404: "install Kubeflow Trainer in the cluster, and name one of its runtimes in distributed.runtime",
    422: "Kubeflow Trainer does not take the section distributed.node as it is; change what it names",
}


@contextmanager
def in_words(settings: DistributedSettings) -> Iterator[None]:
    """An error of the API becomes a ``BadInputError``; others pass."""
    try:
        yield
    except RewardloopError:
        raise
    except Exception as error:
        found = _words(error, settings)
        if found is None:
            raise
        raise BadInputError(found) from error


def api_status(error: BaseException | None) -> int | None:
    """HTTP status that the API answered with, wherever it is in the chain of causes."""
    found = getattr(_cause(error, "kubernetes.client.exceptions"), "status", None)
    return found if isinstance(found, int) else None


def may_pass(error: BaseException) -> bool:
    """Whether asking again may help: nobody answers, or the server is at fault."""
    status = api_status(error)
    return (status is None and _unreachable(error)) or (status or 0) >= 500 or status == 429


def _words(error: BaseException, settings: DistributedSettings) -> str | None:
    status = api_status(error)
    said = _said(error)
    if status is not None:
        mend = _MENDS.get(status, "see the cluster's own log")
        runtime = f", runtime {settings.runtime}" if status == 404 else ""
        return f"distributed.nodes = {settings.nodes}{runtime}: the Kubernetes API answers {status}: {said}; {mend}"
    if _cause(error, "kubernetes.config") is not None:
        return (
            f"distributed.nodes = {settings.nodes}: no Kubernetes cluster is known here ({said}); run the step on a "
            "cluster, name one in KUBECONFIG, or set distributed.nodes: 1"
        )
    if _unreachable(error):
        return (
            f"distributed.nodes = {settings.nodes}: the Kubernetes API does not answer: {said}; see that the cluster "
            "is reachable from here"
        )
    return None


def _unreachable(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or _cause(error, "urllib3") is not None


def _said(error: BaseException) -> str:
    deepest = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    body = getattr(deepest, "body", None)
    try:
        return str(json.loads(body)["message"]) if body else str(deepest)
    except (ValueError, KeyError, TypeError):
        return str(body or deepest)


def _cause(error: BaseException | None, module: str) -> BaseException | None:
    while error is not None and not type(error).__module__.startswith(module):
        error = error.__cause__ or error.__context__
    return error
