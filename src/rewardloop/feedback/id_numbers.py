"""Personal id numbers of countries: what they look like in a text, and python-stdnum's check of each.

In: a region. Out: ``IdNumber``s. A number whose check digit lets many a stranger through (one in ten), and which has no
letters or separators of its own, counts only where a word before it says what it is.
"""

import importlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

_S = r"[ \u00a0-]?"
_NIR = _S.join([r"[12]", "[0-9]{2}", "[0-9]{2}", "[0-9AB]{2}", "[0-9]{3}", "[0-9]{3}", "[0-9]{2}"])
_BEFORE, _AFTER = r"(?<![\w.])(?<![0-9]-)", r"(?!\w)(?!-[0-9])"

_LOOKS: dict[str, list[tuple[str, str, str]]] = {
    # Region -> (module of stdnum or "" where the look has to do, look, words that must come before or "").
    "AT": [("at.vnr", r"[0-9]{4}" + _S + r"[0-9]{6}", "sozialversicherung|svnr|sv-nummer|vsnr")],
    "AU": [("au.tfn", r"[0-9]{3} ?[0-9]{3} ?[0-9]{2,3}", "tfn|tax file")],
    "BE": [("be.nn", r"[0-9]{2}[. ]?[0-9]{2}[. ]?[0-9]{2}[- ]?[0-9]{3}[. ]?[0-9]{2}", "")],
    "BR": [("br.cpf", r"[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}", "")],
    "CA": [
        ("ca.sin", r"[0-9]{3}[ -][0-9]{3}[ -][0-9]{3}", ""),
        ("ca.sin", r"[0-9]{9}", "sin|social insurance|assurance sociale"),
    ],
    "CH": [("ch.ssn", r"756\.?[0-9]{4}\.?[0-9]{4}\.?[0-9]{2}", "")],
    "CN": [("cn.ric", r"[0-9]{17}[0-9Xx]", "")],
    "DE": [
        ("de.idnr", r"[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}", ""),
        ("de.idnr", r"[0-9]{11}", "steuer|idnr|tin|identifikationsnummer"),
    ],
    "DK": [("dk.cpr", r"[0-9]{6}-[0-9]{4}", ""), ("dk.cpr", r"[0-9]{10}", "cpr")],
    "ES": [("es.dni", r"[0-9]{8}-?[A-Za-z]", ""), ("es.nie", r"[XYZxyz]-?[0-9]{7}-?[A-Za-z]", "")],
    "FI": [("fi.hetu", r"[0-9]{6}[-+A-Fa-fU-Yu-y][0-9]{3}[0-9A-Za-z]", "")],
    "FR": [("fr.nir", _NIR, "")],
    "GB": [
        ("", r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]", ""),
        ("gb.nhs", r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}", "nhs"),
    ],
    "IE": [("ie.pps", r"[0-9]{7}[A-Wa-w][A-IWa-iw]?", "")],
    "IN": [
        ("in_.aadhaar", r"[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}", ""),
        ("in_.aadhaar", r"[0-9]{12}", "aadhaar|aadhar|uid"),
        ("in_.pan", r"[A-Z]{5}[0-9]{4}[A-Z]", ""),
    ],
    "IT": [("it.codicefiscale", r"[A-Za-z]{6}[0-9L-Vl-v]{2}[A-Za-z][0-9L-Vl-v]{2}[A-Za-z][0-9L-Vl-v]{3}[A-Za-z]", "")],
    "KR": [("kr.rrn", r"[0-9]{6}-[0-9]{7}", "")],
    "MX": [("mx.curp", r"[A-Za-z]{4}[0-9]{6}[A-Za-z]{6}[0-9A-Za-z][0-9]", "")],
    "NL": [("nl.bsn", r"[0-9]{4}\.?[0-9]{2}\.?[0-9]{3}", "bsn|burgerservice|sofi")],
    "NO": [("no.fodselsnummer", r"[0-9]{6} ?[0-9]{5}", "")],
    "PL": [("pl.pesel", r"[0-9]{11}", "")],
    "SE": [("se.personnummer", r"(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}", "")],
    "TR": [("tr.tckimlik", r"[1-9][0-9]{10}", "")],
    "US": [
        ("us.ssn", r"[0-9]{3}-[0-9]{2}-[0-9]{4}", ""),
        ("us.ssn", r"[0-9]{3} ?[0-9]{2} ?[0-9]{4}", "ssn|social security|social sec"),
        ("us.itin", r"9[0-9]{2}-[0-9]{2}-[0-9]{4}", ""),
    ],
    "ZA": [("za.idnr", r"[0-9]{13}", "")],
}  # fmt: skip
REGIONS = tuple(_LOOKS)
"""Countries whose id numbers are known."""
_WORDS_REACH = 30
"""Characters before a number in which its word is looked for."""


class IdNumber(NamedTuple):
    """One kind of number."""

    look: re.Pattern[str]
    is_valid: Callable[[str], bool]
    words: re.Pattern[str] | None

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where ``text`` has valid ones."""
        return [
            found.span()
            for found in self.look.finditer(text)
            if self.is_valid(found[0]) and (self.words is None or said_before(text, found.start(), self.words))
        ]


def said_before(text: str, place: int, words: re.Pattern[str]) -> bool:
    """Whether one of the words comes shortly before ``place``."""
    return words.search(text, max(0, place - _WORDS_REACH), place) is not None


def id_numbers(regions: Sequence[str]) -> list[IdNumber]:
    """Kinds of the regions that are known; nothing for others."""
    return [one for region in regions for one in _of(region)]


@cache
def _of(region: str) -> tuple[IdNumber, ...]:
    return tuple(
        IdNumber(
            look=re.compile(_BEFORE + look + _AFTER),
            is_valid=importlib.import_module(f"stdnum.{module}").is_valid if module else lambda number: True,
            words=re.compile(rf"(?i:\b(?:{words}))") if words else None,
        )
        for module, look, words in _LOOKS.get(region, ())
    )
