"""This machine's folder: what is forgotten goes from run folders, steps' outputs, caches and checkpoints.

In: settings, the batches that held it, the texts. Out: what was removed or cleaned, and what was left. Steps' outputs
leave together with the entries of KFP's cache that name them, and checkpoints leave: a run makes them again. Evidence
and reports of runs stay, without it.
"""

import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from rewardloop.config import Settings
from rewardloop.errors import RewardloopError
from rewardloop.feedback.store import FeedbackStore
from rewardloop.operation.claim_files import read_claims
from rewardloop.operation.forget_runs import is_at_work, reads
from rewardloop.operation.forget_scrub import Scrubber
from rewardloop.operation.status import read_runs
from rewardloop.steps.publish_report import write_report

_CACHE = ".kfp_cache"
_SCRUBBED = ("drift", "judge")
_ANSWERS = Path("judge", "answers")
_READ_TEXT_SETS = ("train-sft", "generate-references", "evaluate-policy")
"""Steps, as their outputs are named."""
_DIGEST = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True)
class Affected:
    """What was hit: ``batches`` under every digest they ever had, and whether ``text_sets`` of runs were.

    ``unseen``: marks under which nothing was found in the store.
    """

    batches: frozenset[str]
    text_sets: bool = False
    unseen: frozenset[str] = frozenset()


@dataclass
class AtHome:
    """``places``: removed or cleaned. ``left``: what could not be."""

    places: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def clean_home(
    settings: Settings, store: FeedbackStore, affected: Affected, labelers: frozenset[str], texts: Collection[str]
) -> AtHome:
    """Clean this machine's folder; others that worked on the store are cleaned by the same command there.

    Args:
        settings: ``home`` and ``claims``.
        store: has the corpora, by which runs and outputs are known.
        affected: what of the store held it.
        labelers: pseudonyms.
        texts: the texts themselves.
    """
    home = Path(settings.home).resolve()
    found = AtHome()
    scrubber = Scrubber(sorted(labelers), sorted(texts, key=len, reverse=True))
    corpora = corpora_with(store, affected.batches)
    _outputs(home / "pipelines", {*affected.batches, *corpora}, affected.text_sets, found)
    if affected.batches or affected.text_sets:
        _checkpoints(settings, store, home / "work", found)
    if affected.unseen and any((home / _ANSWERS).rglob("*.json")):
        found.left.append(
            f"{home / _ANSWERS}: answers of a judge may quote a text that no batch holds, so that only its hash is "
            "known; if such texts were judged, remove the folder: the judge is asked again"
        )
    if not scrubber:
        return found
    problems: list[str] = []
    for folder, record in read_runs(home / "runs", problems):
        # No run says which text sets it read, nor which rows never became feedback.
        if record.corpus_digest in corpora or affected.text_sets or not affected.batches:
            _run(folder, scrubber, found)
    found.left += problems
    for name in _SCRUBBED:
        found.places += [str(path) for path in sorted((home / name).rglob("*")) if _scrubbed(path, scrubber)]
    return found


def corpora_with(store: FeedbackStore, batches: frozenset[str]) -> frozenset[str]:
    """Digests of corpora that runs have read, and that had one of ``batches``."""
    names = (name.removesuffix(".json") for name in store.storage.list("corpora"))
    return frozenset(name for name in names if batches and reads(store, name, batches))


def _outputs(folder: Path, digests: Collection[str], text_sets: bool, found: AtHome) -> None:
    """Outputs of whole pipeline runs: a step's output without the steps before it would be found in the cache.

    Where text sets held it, those of every run that read some go: none says which.
    """
    wanted = {digest.encode() for digest in digests}
    for place in sorted(folder.glob("*/")):
        read_some = text_sets and any((place / step).exists() for step in _READ_TEXT_SETS)
        if place.name == _CACHE or not (read_some or any(wanted & named for named in _named_in(place))):
            continue
        for entry in (folder / _CACHE).glob("*.json"):
            if f"{place}/" in entry.read_text(encoding="utf-8"):
                entry.unlink(missing_ok=True)
        shutil.rmtree(place)
        found.places.append(str(place))


def _named_in(place: Path) -> Iterator[set[bytes]]:
    for path in place.rglob("*.json"):
        # Tokenizers are large, and name no batch.
        if path.parent.name in ("evidence", "steps") or path.name in ("executor_output.json", "blessing.json"):
            yield set(_DIGEST.findall(path.read_bytes()))


def _checkpoints(settings: Settings, store: FeedbackStore, folder: Path, found: AtHome) -> None:
    """Checkpoints and caches do not say what they were made of, so that all go but those of a run at work."""
    claims = read_claims(store.storage, lease_seconds=settings.claims.lease_seconds)
    at_work = [claim.at.timestamp() for claim in claims if is_at_work(claim)]
    for place in sorted(folder.glob("*/*/")):
        written = max(path.lstat().st_mtime for path in [place, *place.rglob("*")])
        if at_work and written >= min(at_work):
            found.left.append(f"{place}: checkpoints or a cache, of a run that is at work")
            continue
        shutil.rmtree(place)
        found.places.append(str(place))


def _run(folder: Path, scrubber: Scrubber, found: AtHome) -> None:
    """Evidence, records and logs without it; the report is made again of them."""
    report = folder / "report.html"
    cleaned = [path for path in sorted(folder.rglob("*")) if path != report and _scrubbed(path, scrubber)]
    cleaned += [path for path in sorted(folder.glob("*.parquet")) if _without_rows(path, scrubber)]
    stale = report.is_file() and (bool(cleaned) or _scrubbed(report, scrubber))
    if stale:
        try:
            write_report(folder)
        except (RewardloopError, OSError, ValueError) as error:
            report.unlink()
            found.left.append(f"{report}: removed, since it cannot be made again: {str(error).splitlines()[0]}")
    if cleaned or stale:
        found.places.append(str(folder))


def _scrubbed(path: Path, scrubber: Scrubber) -> bool:
    return path.is_file() and not path.is_symlink() and scrubber.file(path)


def _without_rows(path: Path, scrubber: Scrubber) -> bool:
    """Rows of a table of answers whose prompt or answer is forgotten go."""
    frame = pl.read_parquet(path)
    gone = pl.Series([scrubber.tree(row) != row for row in frame.to_dicts()], dtype=pl.Boolean)
    if not gone.any():
        return False
    temporary = path.with_name(f".{path.name}.forgetting")
    frame.filter(~gone).write_parquet(temporary)
    temporary.replace(path)
    return True
