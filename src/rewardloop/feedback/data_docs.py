"""Great Expectations' pages of a corpus: those of batches that were judged before, beside new ones, and one index.

In: the folder that Great Expectations wrote pages of new batches into, and kept pages of the others. Out: the same
folder with a page for every batch. Great Expectations' own index knows only what it has just judged.
"""

import gzip
import html
import json
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rewardloop.feedback.validation import BatchResult

_SECTIONS = ("expectations", "validations")


def pack_pages(folder: Path, digest: str) -> bytes:
    """The pages of one batch: path -> text, as packed JSON."""
    pages = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in _pages(folder, digest)}
    return gzip.compress(json.dumps(pages).encode(), mtime=0)


def put_pages(folder: Path, packed: bytes) -> None:
    """Put pages back that ``pack_pages`` took; only pages, and nowhere but in ``folder``."""
    for name, text in json.loads(gzip.decompress(packed)).items():
        target = folder / name
        inside = target.resolve().is_relative_to(folder.resolve()) and name.split("/")[0] in _SECTIONS
        if inside and target.suffix == ".html":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")


def finish_site(folder: Path, results: Sequence[BatchResult]) -> None:
    """Write the index, and what all pages look like where Great Expectations was not asked this time."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "static").exists():
        shutil.copytree(_static(), folder / "static")
    rows = "".join(_row(folder, result) for result in results)
    (folder / "index.html").write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Validation of feedback</title>'
        "<style>body{font-family:sans-serif;margin:2em}td,th{padding:.3em 1em;text-align:left;vertical-align:top}"
        "</style></head><body><h1>Validation of feedback</h1><table><tr><th>batch</th><th>groups</th>"
        f"<th>failed</th><th>verdict</th><th>pages</th></tr>{rows}</table></body></html>\n",
        encoding="utf-8",
    )


def _row(folder: Path, result: BatchResult) -> str:
    links = " ".join(
        f'<a href="{path.relative_to(folder).as_posix()}">{"rows" if "/rows-" in path.as_posix() else "batch"}</a>'
        for path in _pages(folder, result.digest)
        if path.relative_to(folder).parts[0] == "validations"
    )
    verdict = "<br>".join(map(html.escape, result.reasons)) or "fit for use"
    groups = len(result.kept) + len(result.failed)
    cells = (result.digest[:12], f"{groups:,}", f"{len(result.failed):,}", verdict, links)
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _pages(folder: Path, digest: str) -> list[Path]:
    named = digest[:12]
    found = (path for section in _SECTIONS for path in (folder / section).rglob("*.html"))
    return sorted(path for path in found if named in path.relative_to(folder).as_posix())


def _static() -> Path:
    """Great Expectations' style sheets, without importing it: that takes seconds."""
    package = find_spec("great_expectations")
    assert package is not None
    assert package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0]) / "render" / "view" / "static"
