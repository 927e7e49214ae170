"""What a Kubeflow Pipelines endpoint refuses, in words that name the mend.

In: exceptions of KFP's client. Out: ``BadInputError`` where the user can mend it, ``RewardloopError`` where the server
failed.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from rewardloop.errors import BadInputError, RewardloopError

ENDPOINTS = ("KF_PIPELINES_ENDPOINT", "KFP_ENDPOINT")
"""Variables that name the endpoint: the one that KFP's own client reads goes first."""
TOKEN = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105  the name of a variable


def endpoint() -> tuple[str, str]:
    """The variable of the environment that names the endpoint, and the endpoint; empty where none does."""
    for name in ENDPOINTS:
        if host := os.environ.get(name, "").rstrip("/"):
            return name, host
    return ENDPOINTS[0], ""


def silent(error: Exception) -> BadInputError:
    """Nothing answers."""
    name, host = endpoint()
    return BadInputError(
        f"{name}: no Kubeflow Pipelines answers at {host or 'the cluster'} ({type(error).__name__}); check the "
        "address, or forward the port: kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"
    )


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Around calls of KFP's client.

    Raises:
        BadInputError: nothing answers, the credentials are refused, or a quota is used up.
        RewardloopError: the server failed; its reason is named.
    """
    from kfp_server_api import ApiException  # type: ignore[import-untyped]
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise _explained(error) from error
    except HTTPError as error:
        raise silent(error) from error


def _explained(error: Any) -> RewardloopError:
    name, host = endpoint()
    where, said = host or "the cluster", _message(error)
    if error.status == 401:
        token = f"the file in {TOKEN} ({os.environ[TOKEN]})" if TOKEN in os.environ else f"the file that {TOKEN} names"
        return BadInputError(
            f"{name}: {where} refuses these credentials (401 {error.reason}: {said}). A token is read from {token}; "
            "where it is there it has expired or is for another audience: fetch a new one, kubectl create token "
            "ACCOUNT --audience pipelines.kubeflow.org"
        )
    if error.status == 403 and "quota" not in said:
        return BadInputError(
            f"{name}: {where} does not allow this (403 {error.reason}: {said}); ask for the role "
            "kubeflow-pipelines-edit in the namespace of the runs"
        )
    if "quota" in said:
        return BadInputError(
            f"{where}: a quota of the cluster is used up: {said}. Raise the namespace's ResourceQuota, remove old "
            "runs, or ask for less in placement (cpu_request, memory_request, accelerators)"
        )
    return RewardloopError(f"{where}: {error.status} {error.reason}: {said}")


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"
