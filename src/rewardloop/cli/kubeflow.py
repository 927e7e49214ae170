"""A Kubeflow Pipelines endpoint: its pipeline versions, runs and recurring runs.

In: ``KF_PIPELINES_ENDPOINT`` (or ``KFP_ENDPOINT``), and the credentials that KFP's own client takes from the
environment. Out: ids. Without an endpoint the client looks for a cluster around it, then for a kubeconfig.
"""

import contextlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardloop.cli.kubeflow_errors import TOKEN, clear_errors, endpoint, silent
from rewardloop.config import without_password
from rewardloop.errors import BadInputError

FAILED = frozenset({"FAILED", "CANCELED", "CANCELING", "SKIPPED"})
"""States of runs after which the same run may be submitted again."""
_EQUALS = 1  # of kfp_server_api's filters
_PAGE = 100


@dataclass(frozen=True)
class Version:
    """One version of a pipeline on the endpoint."""

    pipeline_id: str
    version_id: str
    name: str


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

        name, host = endpoint()
        if not host and not _cluster_at_hand():
            raise BadInputError(
                f"{name}: is not set, and there is neither a cluster around this process nor a kubeconfig; "
                f"for example: export {name}=https://kubeflow.example.org/pipeline"
            )
        if host:
            try:  # KFP's client waits without end for a host that is silent
                requests.get(host if "://" in host else f"https://{host}", timeout=timeout_seconds)
            except requests.RequestException as error:
                raise silent(error) from error
        with clear_errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return cls(_client(host), host)

    def experiment(self, name: str) -> str:
        """Id of the experiment, which is made where it is missing."""
        with clear_errors(), _quiet():
            return str(self.client.create_experiment(name=name).experiment_id)

    def pipeline(self, name: str) -> str | None:
        """Id of the pipeline of this name, None where there is none."""
        with clear_errors(), _quiet():
            found = self.client.get_pipeline_id(name)
        return None if found is None else str(found)

    def upload(self, pipeline: str, name: str, package: str, *, description: str) -> tuple[Version, bool]:
        """The version ``name`` of the pipeline, and whether it was uploaded now.

        Args:
            pipeline: made where it is missing.
            name: of the version; one of this name is taken for the same.
            package: the compiled pipeline, YAML.
            description: of the version.
        """
        from kfp_server_api import V2beta1Pipeline  # type: ignore[import-untyped]

        pipeline_id = self.pipeline(pipeline)
        with clear_errors(), _quiet():
            if pipeline_id is None:
                made = self.client.pipelines.pipeline_service_create_pipeline(
                    pipeline=V2beta1Pipeline(display_name=pipeline, name=pipeline)
                )
                pipeline_id = str(made.pipeline_id)
            for found in self._versions(pipeline_id, filter=_named(name)):
                return Version(pipeline_id, str(found.pipeline_version_id), name), False
            with _file(package) as path:
                made = self.client.upload_pipeline_version(
                    str(path), name, pipeline_id=pipeline_id, description=description
                )
            return Version(pipeline_id, str(made.pipeline_version_id), name), True

    def marked_version(self, pipeline: str, mark: str) -> Version | None:
        """The newest version of the pipeline that has ``mark`` in its description."""
        pipeline_id = self.pipeline(pipeline)
        if pipeline_id is None:
            return None
        with clear_errors():
            found = [one for one in self._versions(pipeline_id) if mark in (one.description or "")]
        newest = max(found, key=lambda one: str(one.created_at), default=None)
        return newest and Version(pipeline_id, str(newest.pipeline_version_id), str(newest.display_name))

    def delete_pipeline(self, pipeline_id: str) -> list[str]:
        """Delete a pipeline with its versions; the versions' names."""
        with clear_errors():
            versions = self._versions(pipeline_id)
            for one in versions:
                self.client.delete_pipeline_version(pipeline_id, one.pipeline_version_id)
            self.client.delete_pipeline(pipeline_id)
        return [str(one.display_name) for one in versions]

    def runs(self, name: str) -> list[Any]:
        """Runs of this name, whatever became of them."""
        return self._listed("runs", self.client.list_runs, name)

    def submit(
        self,
        name: str,
        graph: str | Version,
        parameters: Mapping[str, str],
        *,
        experiment: str,
        service_account: str | None = None,
    ) -> str:
        """Start a run of a compiled pipeline, or of a version that is there, and return its id."""
        with clear_errors(), _quiet(), contextlib.ExitStack() as leaving:
            if isinstance(graph, Version):
                source = {"pipeline_id": graph.pipeline_id, "version_id": graph.version_id}
            else:
                source = {"pipeline_package_path": str(leaving.enter_context(_file(graph)))}
            run = self.client.run_pipeline(
                experiment_id=experiment,
                job_name=name,
                params=dict(parameters),
                service_account=service_account,
                **source,
            )
            return str(run.run_id)

    def run_url(self, run_id: str) -> str:
        """Page of the run."""
        pages = os.environ.get("KF_PIPELINES_UI_ENDPOINT", self.host) or "/pipeline"
        return f"{pages.rstrip('/')}/#/runs/details/{run_id}"

    def recurring_runs(self, name: str | None = None) -> list[Any]:
        """Recurring runs of this name, or all, oldest first."""
        found = self._listed("recurring_runs", self.client.list_recurring_runs, name)
        return sorted(found, key=lambda one: (str(one.created_at), one.recurring_run_id))

    def create_recurring_run(self, **wanted: Any) -> str:
        """Create one and return its id; arguments as those of KFP's client."""
        with clear_errors(), _quiet():
            return str(self.client.create_recurring_run(**wanted).recurring_run_id)

    def delete_recurring_run(self, recurring_run_id: str) -> None:
        """Delete one; runs that it started go on."""
        with clear_errors():
            self.client.delete_recurring_run(recurring_run_id)

    def _listed(self, kind: str, call: Callable[..., Any], name: str | None) -> list[Any]:
        with clear_errors():
            namespace = self.client.get_user_namespace() or None
            found = _pages(kind, call, namespace=namespace, filter=_named(name) if name else None)
        # The filter is the server's; a name that only resembles it must not be deleted or waited for.
        return [one for one in found if name is None or one.display_name == name]

    def _versions(self, pipeline_id: str, **more: Any) -> list[Any]:
        return _pages("pipeline_versions", self.client.list_pipeline_versions, pipeline_id=pipeline_id, **more)


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


def _client(host: str) -> Any:
    from kfp import Client
    from kfp.client import ServiceAccountTokenVolumeCredentials

    class QuickClient(Client):  # type: ignore[misc]  # kfp has no types
        """KFP's client asks five times, five seconds apart, whatever the answer was; a refusal stays one."""

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            del sleep_duration
            return self.healthzs.healthz_service_get_healthz()

    path = os.environ.get(TOKEN)
    return QuickClient(host=host or None, credentials=ServiceAccountTokenVolumeCredentials(path) if path else None)


def _cluster_at_hand() -> bool:
    kubeconfig = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)[0]
    return "KUBERNETES_SERVICE_HOST" in os.environ or Path(kubeconfig).expanduser().exists()


def _pages(kind: str, call: Callable[..., Any], **arguments: Any) -> list[Any]:
    found: list[Any] = []
    token = ""
    while True:
        page = call(page_token=token, page_size=_PAGE, **arguments)
        found += getattr(page, kind) or []
        token = page.next_page_token or ""
        if not token:
            return found


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
