"""The pipeline of the recurring run: take the inbox, look whether a retraining is due, and submit it.

A recurring run repeats its parameters for ever, and a retraining's parameters name the corpus of its moment, since the
cache knows data by them. So what recurs is this one small task, which looks up the corpus and submits ``retrain`` (or
``retrain-and-align``) with it.
"""

from kfp import dsl

from components import IMAGE

# The command line is what submits: of the library, it alone may touch KFP, so this task has no step and no component.
_COMMAND = (
    'file=$(mktemp) && printf %s "$0" > "$file" && '
    'exec python -m rewardloop.cli.main trigger --once --submit -c "$file"'
)


@dsl.container_component
def submit_when_due(settings: str) -> dsl.ContainerSpec:
    """Submit a retraining of the current corpus where the policy of ``trigger`` says that one is due."""
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", _COMMAND], args=[settings])


@dsl.pipeline(name="trigger", description="Submit a retraining of the current corpus where one is due.")
def trigger(settings: str) -> None:
    """What the recurring run does.

    Args:
        settings: JSON of the whole configuration.
    """
    submit_when_due(settings=settings).set_caching_options(False)
