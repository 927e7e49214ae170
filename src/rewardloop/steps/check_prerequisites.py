"""Find out what is missing before a GPU is asked for: the first step of every run.

In: where the feedback store and MLflow are. Out: nothing but the record of the step; everything that is missing is one
error. Whether a GPU is there is not asked: this step's pod has none.
"""

import json

from rewardloop.prerequisites import check_store, raise_failures
from rewardloop.steps.step_run import step_run
from rewardloop.tracking.write_check import check_tracking


def check_prerequisites(*, store: str, tracking_uri: str, settings: str) -> None:
    """Write to the store and to MLflow, as the later steps of the run will.

    Args:
        store: URL of the feedback store.
        tracking_uri: MLflow's URI.
        settings: JSON of the configuration's sections; read are ``tracking`` (how long a server may take; its defaults
            where it is absent) and ``organization`` (whose experiment is written to; any, where it is absent).

    Raises:
        BadInputError: lists everything that cannot be written, each with the setting to change.
    """
    from rewardloop.config import TrackingSettings

    with step_run("check_prerequisites") as run:
        given = json.loads(settings)
        tracking = TrackingSettings.model_validate(given.get("tracking", {}))
        findings = [
            check_store(store),
            check_tracking(
                tracking_uri, organization=given.get("organization"), timeout_seconds=tracking.timeout_seconds
            ),
        ]
        raise_failures(findings)
        run.produced = "the store and MLflow can be written"
