"""Whether this machine can hold what a run needs: devices, memory, disk.

In: settings, and the sizes of the bases. Out: ``Finding``s. The needs are estimates from below, which a machine that
misses them cannot meet: weights, gradients and optimizer states; activations and rollouts come on top and depend on the
batch. Four bytes a weight; a weight that learns has a gradient and two moments of Adam besides, twelve bytes more.
"""

import os
import shutil
from pathlib import Path

from rewardloop.config import PROFILES, AlignSettings, Settings
from rewardloop.errors import BadInputError
from rewardloop.operation.base_check import BaseSize
from rewardloop.prerequisites import Finding, failed

_WEIGHT = 4
_LEARNING = 12
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def check_devices(settings: Settings, profile: str | None) -> list[Finding]:
    """Every device that settings or the profile ask for is there."""
    import torch

    from rewardloop.training.devices import choose_device

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(sorted({torch.cuda.get_device_name(place) for place in range(count)}))
    wanted = {}
    if settings.align:
        wanted = {"align.device": settings.align.device, "align.reward_device": settings.align.reward_device}
    findings = []
    for setting, device in wanted.items():
        try:
            choose_device(device, setting)
        except BadInputError as error:
            findings.append(failed("GPU", error, setting))
    if profile and PROFILES[profile].device == "cuda" and not count:
        words = f"--profile {profile} is for a GPU, and this machine has no CUDA device"
        findings.append(Finding("GPU", "failed", words, "--profile cpu, or run where there is one"))
    processes = settings.training.processes or 1
    if count and processes > count:
        words = f"training.processes = {processes}, and this machine has {count} CUDA device(s)"
        findings.append(Finding("GPU", "failed", words, "training.processes"))
    if findings:
        return findings
    return [Finding("GPU", "ok", f"{count} x {names}" if count else "none asked for; this machine has none")]


def check_memory(settings: Settings, reward: BaseSize, policy: BaseSize | None) -> Finding:
    """Weights, gradients and optimizer states against the memory of the device that training uses."""
    needs = {"training the reward model": training_bytes(settings, reward)}
    if settings.align and policy:
        needs["alignment"] = alignment_bytes(settings.align, reward, policy)
    what, need = max(needs.items(), key=lambda one: one[1])
    have, place = _memory()
    words = f"{what} takes {_size(need)} for weights, gradients and optimizer, activations not counted; {place}"
    if need > have:
        mend = "training.method (lora, top_layers)" if "training" in what else "align.method (lora)"
        return Finding("memory", "failed", words, f"{mend}, a smaller base, or a machine with more memory")
    return Finding("memory", "ok", words)


def check_disk(settings: Settings, reward: BaseSize, policy: BaseSize | None, *, local_registry: bool) -> Finding:
    """What one run writes against the space that is free under ``home``.

    Args:
        settings: the checked settings.
        reward: the reward model's base.
        policy: the policy's base, where one is aligned.
        local_registry: whether MLflow's files lie on this machine, too.
    """
    need = run_bytes(settings, reward, policy, local_registry=local_registry)
    home = Path(settings.home).resolve()
    free = shutil.disk_usage(next(one for one in (home, *home.parents) if one.is_dir())).free
    words = f"{home}: a run writes about {_size(need)}; {_size(free)} free"
    if need > free:
        return Finding("disk", "failed", words, "home, or rewardloop gc to remove old runs (housekeeping.keep_runs)")
    return Finding("disk", "ok", words)


def training_bytes(settings: Settings, base: BaseSize) -> int:
    """Of the reward model's training, on each device."""
    training = settings.training
    trained = base.trained(training.method, top_layers=training.top_layers, lora_rank=training.lora_rank)
    whole = _WEIGHT * base.weights + _LEARNING * trained
    shared = training.processes or 1 if training.sharding == "fsdp" else 1
    return whole // shared


def alignment_bytes(align: AlignSettings, reward: BaseSize, policy: BaseSize) -> int:
    """Of policy, reference, reward model and value model on one device."""
    trained = policy.trained(align.method, lora_rank=align.lora_rank, lora_layers=align.lora_layers)
    total = _WEIGHT * policy.weights + _LEARNING * trained
    if align.method == "full":
        total += _WEIGHT * policy.weights  # with LoRA the reference is the policy without its adapters
    if not align.reward_url:
        total += _WEIGHT * reward.weights
    if align.algorithm == "ppo" and align.ppo.value == "reward_model":
        total += (_WEIGHT + _LEARNING) * reward.weights
    return total


def run_bytes(settings: Settings, reward: BaseSize, policy: BaseSize | None, *, local_registry: bool) -> int:
    """Of one run's files: conversions, checkpoints, outputs of steps, registered copies."""
    copies = 2 if local_registry else 1
    trained = reward.trained("full" if settings.training.method == "full" else "lora", lora_rank=0)
    total = _WEIGHT * reward.weights * (reward.converted + copies) + _LEARNING * trained
    if settings.align and policy:
        learns = policy.trained(settings.align.method, lora_rank=settings.align.lora_rank)
        total += _WEIGHT * policy.weights * policy.converted + (_LEARNING + _WEIGHT * copies) * learns
    return total


def _memory() -> tuple[int, str]:
    """Bytes of the device that training takes by itself, in words too."""
    import psutil
    import torch

    if torch.cuda.is_available():
        total = min(torch.cuda.get_device_properties(place).total_memory for place in range(torch.cuda.device_count()))
        return total, f"each GPU has {_size(total)}"
    total = psutil.virtual_memory().total
    limit = _CGROUP.read_text(encoding="ascii").strip() if os.access(_CGROUP, os.R_OK) else "max"
    if limit.isdigit():
        total = min(total, int(limit))
    return total, f"this machine has {_size(total)}"


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
