"""What the pipeline costs beside the steps' own work: one run of the smoke pipeline per runner, and two commands.

    python -m benchmarks.overhead [--image NAME:TAG] [--align]

A step's own work is what its record counts (``StepRecord.seconds``); everything else of the run is overhead: KFP's
orchestration, starting a process or a container, importing libraries, opening and closing the run. Wall time is what a
user waits for, and on a busy machine mostly what others made him wait; processor time is what the overhead itself took,
and says what an idle machine would show. Bare imports of the libraries that a step cannot do without are measured in
the same run, so that what is avoidable is seen. The docker part needs a container engine and ``--image``, else it says
that it was skipped. The last line is one JSON object.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from rewardloop.evidence import StepRecord

_CONFIG = Path("conf/smoke.yaml")
_TEXTS = 700
_HELP_RUNS = 5
_LIBRARIES = {
    "train_reward_model": ("torch", "transformers.models.auto", "mlflow"),
    "evaluate_reward_model": ("torch", "transformers.models.auto", "mlflow"),
    "register_models": ("torch", "mlflow"),
    "publish_report": ("matplotlib.figure",),
}
"""What a step cannot start its work without, however its code is written."""


def command(*arguments: str) -> list[str]:
    """The command line, by this interpreter."""
    return [sys.executable, "-m", "rewardloop.cli.main", *arguments]


def timed(arguments: Sequence[str], folder: Path) -> tuple[float, float, subprocess.CompletedProcess[str]]:
    """Wall and processor seconds of a process and its children, and what it said."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603  our own
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done


def workplace(folder: Path) -> Path:
    """A folder with the smoke configuration and one batch in its store."""
    from tests.smoke_data import write_ratings

    (folder / "conf").mkdir(parents=True)
    for name in ("smoke.yaml", "smoke-prompts.jsonl"):
        shutil.copy(_CONFIG.with_name(name), folder / "conf")
    ratings = write_ratings(folder / "ratings.csv", texts=_TEXTS, seed=1)
    # ``status`` makes MLflow's tables, which the first run of a home would wait for and no later one.
    for arguments in (("ingest", "-c", "conf/smoke.yaml", str(ratings)), ("status", "-c", "conf/smoke.yaml")):
        done = timed(command(*arguments), folder)[2]
        if done.returncode != 0:
            raise SystemExit(done.stderr)
    return folder


def measure_run(folder: Path, settings: Sequence[str]) -> dict[str, Any]:
    """One ``rewardloop run``: its overhead per step, and each step's start-up."""
    options = [part for setting in settings for part in ("--set", setting)]
    wall, cpu, done = timed(command("run", "-c", "conf/smoke.yaml", *options), folder)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stdout + done.stderr)
    [run_dir] = (folder / ".rewardloop" / "runs").iterdir()
    records = [StepRecord.model_validate_json(path.read_bytes()) for path in (run_dir / "steps").glob("*.json")]
    return overhead(records, wall, cpu) | {"exit_code": done.returncode}


def overhead(records: Sequence[StepRecord], wall: float, cpu: float) -> dict[str, Any]:
    """What is left of a run's seconds when its steps' own are taken off.

    Args:
        records: of the steps that ran.
        wall: seconds of the whole run.
        cpu: processor seconds of the whole run, as far as this process' children took them.
    """
    work = sum(record.seconds or 0.0 for record in records)
    work_cpu = sum(record.cpu_seconds or 0.0 for record in records)
    startup = {record.step: record.startup_seconds for record in records}
    startup_cpu = {record.step: record.startup_cpu_seconds for record in records}
    return {
        "seconds_per_step": round((wall - work) / len(records), 2),
        "cpu_seconds_per_step": round((cpu - work_cpu) / len(records), 2),
        # Of that, what each step pays anew; the rest is paid once a run: the command line, MLflow's tables, KFP.
        "startup_seconds_per_step": round(sum(one or 0.0 for one in startup.values()) / len(records), 2),
        "startup_cpu_seconds_per_step": round(sum(one or 0.0 for one in startup_cpu.values()) / len(records), 2),
        "steps": len(records),
        "run_seconds": round(wall, 1),
        "run_cpu_seconds": round(cpu, 1),
        "work_seconds": round(work, 1),
        "work_cpu_seconds": round(work_cpu, 1),
        "startup_seconds": dict(sorted(startup.items())),
        "startup_cpu_seconds": dict(sorted(startup_cpu.items())),
    }


def measure_imports() -> dict[str, dict[str, float]]:
    """Seconds that the bare libraries of a step take, each set in a process of its own, after one that fills caches."""
    found = {}
    for step, libraries in _LIBRARIES.items():
        bare = [sys.executable, "-c", f"import {', '.join(libraries)}"]
        wall, cpu, done = [timed(bare, Path()) for _ in range(2)][1]
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        found[step] = {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}
    return found


def above_imports(run: dict[str, Any], imports: dict[str, dict[str, float]]) -> dict[str, float]:
    """A run's overhead per step without the imports that no code could spare it, at most what the step's start took."""
    found = {}
    for kind in ("seconds", "cpu_seconds"):
        started = run[f"startup_{kind}"]
        spared = sum(min(bare[kind], started.get(step) or 0.0) for step, bare in imports.items())
        found[f"{kind}_per_step"] = round(run[f"{kind}_per_step"] - spared / run["steps"], 2)
    return found


def measure_help() -> dict[str, float]:
    """The median of some calls, after one that fills the caches."""
    found = [timed(command("--help"), Path())[:2] for _ in range(_HELP_RUNS + 1)][1:]
    return {
        "seconds": round(statistics.median(wall for wall, _ in found), 3),
        "cpu_seconds": round(statistics.median(cpu for _, cpu in found), 3),
    }


def measure_rollback(folder: Path) -> dict[str, float]:
    """``rewardloop rollback`` as a user calls it, between two versions in a tracking database of its own."""
    from rewardloop.config import load_settings
    from rewardloop.storage import Storage
    from rewardloop.tracking.connection import connect
    from rewardloop.tracking.history import History
    from tests.unit.tracking.versions import plant

    (folder / "conf").mkdir(parents=True)
    shutil.copy(_CONFIG, folder / "conf")
    settings = load_settings(_CONFIG).settings
    uri = connect(None, folder / settings.home, settings.tracking.timeout_seconds)
    history = History(Storage.open(str(folder / settings.store.url)), settings.model_name)
    for before in (None, "1"):
        version = plant(uri, settings.model_name)
        history.append("promote", version, expected=before, why="better", threshold=0.5, compared_with="none")
    wall, cpu, done = timed(command("rollback", "-c", "conf/smoke.yaml", "--reason", "it praises everything"), folder)
    champion = history.champion()
    if done.returncode != 0 or champion is None or champion.version != "1":
        raise SystemExit(done.stdout + done.stderr)
    return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}


def image_sizes(name: str) -> dict[str, float] | str:
    """Gigabytes of every image of this repository's name on the engine; words where none answers."""
    import docker
    from docker.errors import DockerException

    family = name.rpartition(":")[0].rpartition("/")[2].removesuffix("-cpu").removesuffix("-gpu") or "rewardloop"
    try:
        images = docker.from_env().images.list()
    except (DockerException, OSError):
        return "skipped: no container engine"
    return {tag: round(one.attrs["Size"] / 1e9, 3) for one in images for tag in one.tags if family in tag}


def measure_docker(image: str | None, folder: Path, settings: Sequence[str]) -> dict[str, Any]:
    """The same run in containers; processor time of containers is not this process' children's, so it is left out."""
    sizes = image_sizes(image or "")
    if isinstance(sizes, str):
        return {"skipped": sizes.removeprefix("skipped: ")}
    if not image or image not in sizes:
        return {"skipped": f"no image {image or ''}: make images, then --image NAME:TAG; there: {sorted(sizes)}"}
    found = measure_run(workplace(folder), [*settings, "runner.kind=docker", f"runner.image={image}"])
    return {name: value for name, value in found.items() if name not in ("cpu_seconds_per_step", "run_cpu_seconds")}


def main(
    image: Annotated[
        str | None, typer.Option(help="The project's CPU image; without it containers are left out.")
    ] = None,
    align: Annotated[bool, typer.Option(help="With the policy's steps, too.")] = False,
) -> None:
    """Measure and print one JSON object as the last line."""
    settings = [] if align else ["align="]
    # Byte code that is not kept is made again by every process, and measures the compiler.
    for name in ("MLFLOW_TRACKING_URI", "PYTHONDONTWRITEBYTECODE"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run, imports = measure_run(workplace(folder / "subprocess"), settings), measure_imports()
        found = {
            "help": measure_help(),
            "rollback": measure_rollback(folder / "rollback"),
            "subprocess": run,
            "imports": imports,
            "subprocess_above_imports": above_imports(run, imports),
            "docker": measure_docker(image, folder / "docker", settings),
            "images": image_sizes(image or ""),
            "load": [round(one, 1) for one in os.getloadavg()],
            "cores": os.cpu_count(),
            "date": datetime.now(UTC).date().isoformat(),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
