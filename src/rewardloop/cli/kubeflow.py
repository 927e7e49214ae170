"""A Kubeflow Pipelines endpoint: its pipeline versions, runs and recurring runs, and what it refuses in clear words.

In: ``KF_PIPELINES_ENDPOINT`` and the credentials that KFP's own client takes from the environment. Out: ids. Without an
endpoint in the environment the client looks for a cluster around it, then for a kubeconfig.
"""

import contextlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rewardloop.config import ScheduleSettings, without_password
from rewardloop.errors import BadInputError, RewardloopError

ENDPOINT = "KF_PIPELINES_ENDPOINT"
FAILED = frozenset({"FAILED", "CANCELED", "CANCELING", "SKIPPED"})
"""States of runs after which the same run may be submitted again."""
_EQUALS = 1  # of kfp_server_api's filters
_PAGE = 100


@dataclass(frozen=True)
class Kubeflow:
    """One endpoint."""

    client: Any
    host: str

    @classmethod
    def connect(cls, *, timeout_seconds: float) -> "Kubeflow":
        """Connect to the endpoint of the environment.

        Raises:
            BadInputError: there is none, nothing answers there, or it refuses the credentials.
        """
        import requests

        host = os.environ.get(ENDPOINT, "").rstrip("/")
        if not host and not _cluster_at_hand():
            raise BadInputError(
                f"{ENDPOINT}: is not set, and there is neither a cluster around this process nor a kubeconfig; "
                f"for example: export {ENDPOINT}=https://kubeflow.example.org/pipeline"
            )
        if host:
            try:  # KFP's client waits without end for a host that is silent
                requests.get(host if "://" in host else f"https://{host}", timeout=timeout_seconds)
            except requests.RequestException as error:
                raise _silent(host, error) from error
        with _clear_errors(host), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return cls(_client(), host)

    def experiment(self, name: str) -> str:
        """Id of the experiment, which is made where it is missing."""
        with _clear_errors(self.host), _quiet():
            return str(self.client.create_experiment(name=name).experiment_id)

    def version(self, pipeline: str, name: str, package: str, *, description: str) -> tuple[str, str, bool]:
        """Ids of the pipeline and of its version ``name``, and whether it was uploaded now.

        Args:
            pipeline: made where it is missing.
            name: of the version; one of this name is taken for the same.
            package: the compiled pipeline, YAML.
            description: of the version, for people.
        """
        from kfp_server_api import V2beta1Pipeline  # type: ignore[import-untyped]

        with _clear_errors(self.host), _quiet():
            pipeline_id = self.client.get_pipeline_id(pipeline)
            if pipeline_id is None:
                made = self.client.pipelines.pipeline_service_create_pipeline(
                    pipeline=V2beta1Pipeline(display_name=pipeline, name=pipeline)
                )
                pipeline_id = made.pipeline_id
            found = self.client.list_pipeline_versions(pipeline_id, filter=_named(name)).pipeline_versions or []
            if found:
                return pipeline_id, str(found[0].pipeline_version_id), False
            with _file(package) as path:
                made = self.client.upload_pipeline_version(
                    str(path), name, pipeline_id=pipeline_id, description=description
                )
            return pipeline_id, str(made.pipeline_version_id), True

    def runs(self, name: str) -> list[Any]:
        """Runs of this name, whatever became of them."""
        return self._listed("runs", self.client.list_runs, name)

    def submit(self, name: str, package: str, parameters: Mapping[str, str], *, experiment: str) -> str:
        """Start a run and return its id."""
        with _clear_errors(self.host), _quiet(), _file(package) as path:
            run = self.client.run_pipeline(
                experiment_id=experiment,
                job_name=name,
                pipeline_package_path=str(path),
                params=dict(parameters),
            )
            return str(run.run_id)

    def run_url(self, run_id: str) -> str:
        """Page of the run."""
        pages = os.environ.get("KF_PIPELINES_UI_ENDPOINT", self.host) or "/pipeline"
        return f"{pages.rstrip('/')}/#/runs/details/{run_id}"

    def recurring_runs(self, name: str) -> list[Any]:
        """Recurring runs of this name, oldest first."""
        found = self._listed("recurring_runs", self.client.list_recurring_runs, name)
        return sorted(found, key=lambda one: (str(one.created_at), one.recurring_run_id))

    def create_recurring_run(self, **wanted: Any) -> str:
        """Create one and return its id; arguments as those of KFP's client."""
        with _clear_errors(self.host), _quiet():
            return str(self.client.create_recurring_run(**wanted).recurring_run_id)

    def delete_recurring_run(self, recurring_run_id: str) -> None:
        """Delete one; runs that it started go on."""
        with _clear_errors(self.host):
            self.client.delete_recurring_run(recurring_run_id)

    def _listed(self, kind: str, call: Any, name: str) -> list[Any]:
        found: list[Any] = []
        token = ""
        with _clear_errors(self.host):
            namespace = self.client.get_user_namespace() or None
            while True:
                page = call(page_token=token, page_size=_PAGE, filter=_named(name), namespace=namespace)
                # The filter is the server's; a name that only resembles it must not be deleted or waited for.
                found += [one for one in getattr(page, kind) or [] if one.display_name == name]
                token = page.next_page_token or ""
                if not token:
                    return found


def package(name: str, settings: ScheduleSettings) -> str:
    """The shipped graph ``compiled/<name>.yaml``, with ``schedule.image`` in every step where it is set."""
    text = (files("rewardloop") / "compiled" / f"{name}.yaml").read_text(encoding="utf-8")
    return with_image(text, settings.image) if settings.image else text


def with_image(text: str, image: str) -> str:
    """The compiled graph with another image in every step."""
    import yaml

    documents = list(yaml.safe_load_all(text))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        if "container" in executor:
            executor["container"]["image"] = image
    return str(yaml.safe_dump_all(documents, sort_keys=True))


def check_reachable(setting: str, url: str) -> None:
    """Raise BadInputError where a pod could not use ``url``, or everybody who sees the run could read a password."""
    if without_password(url) != url:
        raise BadInputError(
            f"{setting}: holds a user or a password, which Kubeflow Pipelines shows to everybody who sees the run; "
            "give the steps their credentials as secrets of the cluster"
        )
    if "://" not in url and not Path(url).is_absolute():
        raise BadInputError(
            f"{setting}: {url!r} is a folder of this machine; a pod needs a URL (s3://bucket/folder, http://host), or "
            "the absolute path of a volume that every pod mounts"
        )


def _client() -> Any:
    from kfp import Client
    from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, ServiceAccountTokenVolumeCredentials

    class QuickClient(Client):  # type: ignore[misc]  # kfp has no types
        """KFP's client asks five times, five seconds apart, whatever the answer was; a refusal stays one."""

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            del sleep_duration
            return self.healthzs.healthz_service_get_healthz()

    path = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    return QuickClient(credentials=ServiceAccountTokenVolumeCredentials(path) if path else None)


def _cluster_at_hand() -> bool:
    kubeconfig = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)[0]
    return "KUBERNETES_SERVICE_HOST" in os.environ or Path(kubeconfig).expanduser().exists()


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": _EQUALS, "key": "display_name", "stringValue": name}]})


@contextlib.contextmanager
def _file(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"  # the client goes by the suffix
        path.write_text(text, encoding="utf-8")
        yield path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The client prints links as it goes; the command says once what came of it.
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def _clear_errors(host: str) -> Iterator[None]:
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status in (401, 403):
            raise BadInputError(
                f"{ENDPOINT}: {host or 'the cluster'} refuses these credentials ({error.status} {error.reason}); the "
                "token is read from the file in KF_PIPELINES_SA_TOKEN_PATH"
            ) from error
        raise RewardloopError(f"{host or 'the cluster'}: {error.status} {error.reason}: {_message(error)}") from error
    except HTTPError as error:
        raise _silent(host, error) from error


def _silent(host: str, error: Exception) -> BadInputError:
    return BadInputError(
        f"{ENDPOINT}: no Kubeflow Pipelines answers at {host or 'the cluster'} ({type(error).__name__}); check the "
        "address, or forward the port: kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"
    )


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"
