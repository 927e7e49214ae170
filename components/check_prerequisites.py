"""Store, MLflow and settings are looked at before anything costs money."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_prerequisites(
    store: str,
    tracking_uri: str,
    settings: str,
) -> None:
    """Store, MLflow and settings are looked at before anything costs money."""
    from rewardloop.steps.check_prerequisites import check_prerequisites as step

    step(
        store=store,
        tracking_uri=tracking_uri,
        settings=settings,
    )
