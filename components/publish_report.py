"""The report of the run, also when a step failed."""

from kfp import dsl
from kfp.dsl import HTML, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def publish_report(
    report: Output[HTML],
) -> None:
    """The report of the run, also when a step failed."""
    from pathlib import Path

    from rewardloop.steps.publish_report import publish_report as step

    step(
        report=Path(report.path),
    )
