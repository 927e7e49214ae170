"""``rewardloop doctor``: what is missing, before anything costs money.

In: the configuration. Out: one line per thing looked at, each with the setting to change; exit code 0, or 2 where
something is missing. Every question is asked at once, and one that has no answer in time has failed.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewardloop.cli.options import DEFAULT_CONFIG, Config, Overrides, Profile, read_settings

if TYPE_CHECKING:
    from rewardloop.config import Settings
    from rewardloop.prerequisites import Finding

Check = Callable[[], "Iterable[Finding]"]


def doctor(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Check store, MLflow, base model, machine, and the cluster or container engine if runs go there.

    Exit codes: 0 nothing is missing; 2 something is.
    """
    settings = read_settings(config, overrides, profile).settings
    findings = examine(settings, profile)
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in findings], indent=1, ensure_ascii=False))
    else:
        typer.echo(table(findings))
    raise typer.Exit(2 if any(one.state == "failed" for one in findings) else 0)


def examine(settings: "Settings", profile: str | None = None) -> list["Finding"]:
    """Look at everything that a run of these settings needs.

    Args:
        settings: the checked settings.
        profile: the hardware that was asked for by name.
    """
    import stamina

    from rewardloop.cli.cluster_checks import PIPELINES, check_pipelines, check_placement
    from rewardloop.cli.kubeflow_errors import endpoint
    from rewardloop.prerequisites import Finding, check_store

    seconds = float(settings.tracking.timeout_seconds)
    checks: list[tuple[str, str, Check]] = [
        ("store", "store.url", lambda: [check_store(settings.store.url)]),
        ("MLflow", "tracking.uri", lambda: [_tracking(settings, seconds)]),
    ]
    name, host = endpoint()
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
    if host or in_cluster:
        checks.append((PIPELINES, name, lambda: [check_pipelines(seconds)]))
    if not settings.placement.is_empty():
        checks.append(("Kubernetes", "the kubeconfig", lambda: check_placement(settings, seconds)))
        checks.append(("image", "placement.default.image", lambda: _placed_images(settings, seconds)))
    if settings.runner.kind == "docker":
        checks.append(("container engine", "runner.kind", lambda: [_engine(settings)]))
    # A store that is away is asked again for most of a minute elsewhere; here that is the answer.
    stamina.set_active(False)
    try:
        found = in_time(checks, seconds, meanwhile=lambda: _machine(settings, profile))
    finally:
        stamina.set_active(True)
    if not host and not in_cluster:
        found.append(Finding(PIPELINES, "not checked", f"{name} is not set: runs stay on this machine"))
    return found


def in_time(checks: Sequence[tuple[str, str, Check]], seconds: float, *, meanwhile: Check = tuple) -> list["Finding"]:
    """Run every check in a thread of its own; findings are in the order of the checks, ``meanwhile``'s last.

    Args:
        checks: name, the setting to change where it is silent, and the check.
        seconds: that a check's own questions may take.
        meanwhile: what needs no limit, since it asks nobody; it runs here, while the others wait.
    """
    from rewardloop.prerequisites import Finding, failed

    answers: dict[int, list[Finding]] = {}

    def answer(place: int, name: str, setting: str, check: Check) -> None:
        try:
            answers[place] = list(check())
        except Exception as error:  # one broken check hides no other
            answers[place] = [failed(name, error, setting)]

    threads = [
        threading.Thread(target=answer, args=(place, *one), daemon=True, name=f"check-{one[0]}")
        for place, one in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    local = list(meanwhile())
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [
        one
        for place, (name, setting, _) in enumerate(checks)
        for one in answers.get(place, [Finding(name, "failed", f"no answer within {seconds:g} s", setting)])
    ] + local


def table(findings: Sequence["Finding"]) -> str:
    """The findings as people read them: what failed comes with its mend on a line of its own."""
    width = max(len(one.check) for one in findings)
    lines = []
    for one in findings:
        first, *more = one.found.splitlines()
        lines.append(f"{one.state:<11}  {one.check:<{width}}  {first}")
        lines += [f"{'':<{width + 15}}{line.strip()}" for line in more]
        if one.state == "failed":
            lines.append(f"{'':<{width + 15}}change: {one.mend}")
    bad = sum(one.state == "failed" for one in findings)
    lines.append("Nothing is missing." if not bad else f"{bad} of {len(findings)} failed.")
    return "\n".join(lines)


def _tracking(settings: "Settings", seconds: float) -> "Finding":
    from rewardloop.tracking.write_check import check_tracking

    return check_tracking(tracking_uri(settings), organization=settings.organization, timeout_seconds=seconds)


def tracking_uri(settings: "Settings") -> str:
    """Where MLflow is, as a run finds it."""
    local = f"sqlite:///{Path(settings.home).resolve() / 'mlflow.db'}"
    return settings.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or local


def _machine(settings: "Settings", profile: str | None) -> Iterable["Finding"]:
    """Base models, and whether this machine can hold them: torch and transformers are imported in one thread."""
    from rewardloop.operation.base_check import check_base
    from rewardloop.operation.machine import check_devices, check_disk, check_memory

    cache = Path(settings.home).resolve() / "base-models"
    found, reward = check_base("model.base", settings.model.base, cache)
    yield found
    policy = reward
    if settings.align and settings.align.policy:
        found, policy = check_base("align.policy", settings.align.policy, cache)
        yield found
    yield from check_devices(settings, profile)
    if reward and (policy or not settings.align):
        local = tracking_uri(settings).startswith("sqlite:")
        yield check_memory(settings, reward, policy)
        yield check_disk(settings, reward, policy, local_registry=local)


def _placed_images(settings: "Settings", seconds: float) -> Iterable["Finding"]:
    from rewardloop.cli.image_check import check_image
    from rewardloop.config.placement import STEPS

    images = {settings.placement.of(step).image: step for step in STEPS}
    for image, step in images.items():
        if image:
            yield check_image(image, f"placement.steps.{step}.image (or default.image)", timeout_seconds=seconds)


def _engine(settings: "Settings") -> "Finding":
    """An engine answers, and has an image that holds this version of rewardloop."""
    from rewardloop.cli.runners import containers_for
    from rewardloop.errors import BadInputError
    from rewardloop.prerequisites import Finding, failed

    containers = containers_for(settings, store=settings.store.url, tracking_uri=tracking_uri(settings))
    try:
        if containers:
            containers.check()
    except BadInputError as error:
        return failed("container engine", error, "runner.kind or runner.image")
    return Finding("container engine", "ok", f"answers, and {settings.runner.image} holds this version of rewardloop")
