"""The report of the run, also when a step failed."""

from kfp import dsl
from kfp.dsl import HTML, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def publish_report(
    corpus_digest: str,
    config_digest: str,
    trigger_reason: str,
    tracking_uri: str,
    settings: str,
    report: Output[HTML],
) -> None:
    """The report of the run, also when a step failed."""
    from pathlib import Path

    from rewardloop.steps.publish_report import publish_report as step

    step(
        corpus_digest=corpus_digest,
        config_digest=config_digest,
        trigger_reason=trigger_reason,
        tracking_uri=tracking_uri,
        settings=settings,
        report=Path(report.path),
    )
