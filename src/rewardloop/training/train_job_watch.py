"""A TrainJob is waited for: its first node's log goes on as the step's log, and its failure gets a reason.

In: Kubeflow's client and the TrainJob's name. Out: None where it is complete, else why it failed, with the last lines
of its nodes.
"""

import time
from typing import Any

from rewardloop.config import DistributedSettings
from rewardloop.errors import RewardloopError
from rewardloop.training.train_job_errors import may_pass

_NODE = "node"
_FIRST = f"{_NODE}-0"
_ENDED = {"Complete", "Failed"}


class Watcher:
    """Looks at one TrainJob until it ends."""

    def __init__(self, client: Any, name: str, settings: DistributedSettings) -> None:
        self.client = client
        self.name = name
        self.settings = settings
        self.printed: dict[str, int] = {}
        """Pod -> lines that were printed; a log that is opened again begins at its beginning."""
        self.answered = time.monotonic()

    def wait(self) -> str | None:
        """Until the TrainJob ends; printing its log.

        Raises:
            RewardloopError: no node started in time, or somebody deleted the TrainJob.
        """
        ends = time.monotonic() + self.settings.start_minutes * 60
        started = False
        while True:
            job = self._look()
            pod = next((one.pod_name for one in job.steps if one.name == _FIRST and one.status != "Pending"), None)
            started = started or pod is not None
            if job.status in _ENDED:
                self._print(pod, follow=False)
                return None if job.status == "Complete" else self._why(job)
            if not started and time.monotonic() > ends:
                raise RewardloopError(
                    f"TrainJob {self.name}: no node started within distributed.start_minutes = "
                    f"{self.settings.start_minutes:g}{self._events()}; the TrainJob is deleted"
                )
            self._print(pod, follow=True)
            time.sleep(self.settings.poll_seconds)

    def _look(self) -> Any:
        while True:
            try:
                job = self.client.get_job(self.name)
            except Exception as error:
                away = time.monotonic() - self.answered
                if not may_pass(error) or away > self.settings.outage_minutes * 60:
                    raise
                time.sleep(self.settings.poll_seconds)
            else:
                self.answered = time.monotonic()
                return job

    def _print(self, pod: str | None, *, follow: bool) -> None:
        """Print what is new of the first node's log; a log that breaks off is taken up at the next look."""
        if pod is None:
            return
        try:
            for number, line in enumerate(self.client.get_job_logs(self.name, step=_FIRST, follow=follow), start=1):
                if number > self.printed.get(pod, 0):
                    print(line, flush=True)
                    self.printed[pod] = number
                    self.answered = time.monotonic()
        except (RuntimeError, TimeoutError):
            return  # the container is not there yet, or no longer

    def _why(self, job: Any) -> str:
        backend = self.client.backend
        found = backend.custom_api.get_namespaced_custom_object(
            "trainer.kubeflow.org", "v1alpha1", backend.namespace, "trainjobs", self.name
        )
        conditions = found.get("status", {}).get("conditions", [])
        said = "; ".join(
            f"{one.get('reason', '')}: {one.get('message', '')}" for one in conditions if one["type"] == "Failed"
        )
        ends = "".join(self._last_lines(step) for step in job.steps if step.name.startswith(_NODE))
        return f"TrainJob {self.name} failed ({said}){ends}"

    def _last_lines(self, step: Any) -> str:
        if step.status == "Succeeded" or step.pod_name is None:
            return ""
        try:
            lines = self.client.backend.core_api.read_namespaced_pod_log(
                step.pod_name, self.client.backend.namespace, container=_NODE, tail_lines=self.settings.last_lines
            )
        except Exception as error:  # the reason of the failure must not be lost for a log that is gone
            lines = f"no log: {type(error).__name__}"
        return f"\n{step.name} ({step.pod_name}), last lines:\n{str(lines).rstrip()}"

    def _events(self) -> str:
        try:
            events = self.client.get_job_events(self.name)
        except Exception:  # events only explain
            return ""
        said = dict.fromkeys(f"{event.reason}: {event.message}" for event in events)
        return f" ({'; '.join(said)})" if said else ""
