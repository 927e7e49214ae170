"""Fetch the demo's feedback: 10,605 film-review sentences, each rated from -4 to +4 by 15 to 29 people.

The data (Hutto and Gilbert, ICWSM 2014; MIT licence) travel in the source distribution of the PyPI package
vaderSentiment 3.3.1. Written to the given folder: ``batch-1.csv`` and ``batch-2.csv``, columns id, text, ratings (a
JSON list of anonymous ratings), and ``prompts.jsonl``: the opening words of sentences that are in no batch.

    python demo/film_reviews.py FOLDER
"""

import argparse
import ast
import csv
import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SDIST = "vaderSentiment-3.3.1.tar.gz"
SDIST_SHA256 = "6ea3b53f1835a1bb9125cbb9872e8740bd506ab1d9f2266d0c63109b858d71af"
INNER = "vaderSentiment-3.3.1/additional_resources/hutto_ICWSM_2014.tar.gz"
FIRST_BATCH = 4300
PROMPTS = 480
OPENING = 5
"""Words of a sentence that make a prompt."""
LEAST = 12
"""Words of a sentence that is opened: so many more than its opening that there is something to go on with."""
SEED = 20140601  # the order of the source is by film; people rated sentences in random order


def fetch(folder: Path) -> bytes:
    """The source distribution from PyPI, through pip, checked against its known digest."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    # The command is fixed but for the folder.
    subprocess.run([*command, "--dest", str(folder), "vaderSentiment==3.3.1"], check=True)  # noqa: S603
    content = (folder / SDIST).read_bytes()
    if hashlib.sha256(content).hexdigest() != SDIST_SHA256:
        raise SystemExit(f"{SDIST}: the digest is not the known one; refusing to use the file")
    return content


def read_rows(sdist: bytes) -> list[tuple[str, str, list[int]]]:
    """(id, text, ratings) of every film sentence, in the order of the source."""
    with tarfile.open(fileobj=io.BytesIO(sdist)) as outer:
        member = outer.extractfile(INNER)
        if member is None:
            raise SystemExit(f"{SDIST}: {INNER} is missing")
        inner = member.read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        texts = _table(archive, "movieReviewSnippets_GroundTruth.txt")
        ratings = _table(archive, "movieReviewSnippets_anonDataRatings.txt")
    return [(key, fields[1], ast.literal_eval(ratings[key][2])) for key, fields in texts.items()]


def _table(archive: tarfile.TarFile, name: str) -> dict[str, list[str]]:
    member = archive.extractfile(f"hutto_ICWSM_2014/{name}")
    if member is None:
        raise SystemExit(f"{SDIST}: {name} is missing")
    # A few sentences hold bytes of another encoding; the replacement character keeps them readable.
    lines = member.read().decode("utf-8-sig", errors="replace").replace("\r\n", "\n").split("\n")
    rows = (line.split("\t", 3) for line in lines if line.strip())
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def open_sentences(rows: list[tuple[str, str, list[int]]]) -> tuple[list[str], list[tuple[str, str, list[int]]]]:
    """The opening words of the last ``PROMPTS`` sentences that are long enough, and all other rows."""
    opened: dict[str, str] = {}
    for key, text, _ in reversed(rows):
        words = text.split()
        if len(words) >= LEAST and len(opened) < PROMPTS:
            opened[key] = " ".join(words[:OPENING])
    return sorted(set(opened.values())), [row for row in rows if row[0] not in opened]


def main() -> None:
    """Write both batches and the prompts; nothing is left half-written."""
    parser = argparse.ArgumentParser(description="Fetch the demo's film-review ratings.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        rows = read_rows(fetch(Path(temporary)))
        random.Random(SEED).shuffle(rows)
        opened, rest = open_sentences(rows[FIRST_BATCH:])
        for name, part in (("batch-1.csv", rows[:FIRST_BATCH]), ("batch-2.csv", rest)):
            draft = Path(temporary) / name
            with draft.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                writer.writerow(["id", "text", "ratings"])
                writer.writerows((key, text, json.dumps(ratings)) for key, text, ratings in part)
            draft.replace(folder / name)
            print(f"{folder / name}: {len(part):,} sentences")
        prompts = Path(temporary) / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in opened), encoding="utf-8")
        prompts.replace(folder / "prompts.jsonl")
        print(f"{folder / 'prompts.jsonl'}: the opening words of {len(opened):,} other sentences")


if __name__ == "__main__":
    main()
