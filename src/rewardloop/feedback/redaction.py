"""Addresses and numbers of people, taken out of texts.

In: a text. Out: the same text with ``[EMAIL]``, ``[PHONE]``, ``[CARD]``, ``[ID_NUMBER]``, ``[IBAN]``, ``[IP]`` in their
places, and how many. Phone numbers are found by ``phonenumbers``, check digits are python-stdnum's; nothing asks a
network. The same text comes out the same everywhere, and a second pass finds nothing. Names, streets and whatever has
no form of its own are not found.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from rewardloop.config.privacy import RedactedKind
from rewardloop.errors import BadInputError
from rewardloop.feedback.id_numbers import REGIONS, id_numbers, said_before

Spans = list[tuple[int, int]]

# Bounded repeats: a long text of word characters must not take quadratic time.
# What follows the last label says nothing: people write "bob@example.com- thanks".
_EMAIL = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}"
    r"(?:[xX][nN]--[A-Za-z0-9-]{0,58}[A-Za-z0-9]|[^\W\d_]{2,24})"
)
_GAP = r"[ \u00a0.-]"
_CARDS = [
    re.compile(rf"(?<![0-9])(?<![0-9][.,])(?:{look})(?![0-9])")
    for look in (
        r"[2-6][0-9]{12,18}",
        _GAP.join([r"[2-6][0-9]{3}", "[0-9]{4}", "[0-9]{4}", "[0-9]{4}", "[0-9]{3}"]),
        _GAP.join([r"[2-6][0-9]{3}", "[0-9]{4}", "[0-9]{4}", "[0-9]{4}"]),
        rf"3[0-9]{{3}}{_GAP}[0-9]{{6}}{_GAP}[0-9]{{4,5}}",
    )
]
_ISSUERS = re.compile(  # digits of the networks' cards: ISO/IEC 7812 prefixes with their lengths
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[689][0-9])[0-9]{11}|35(?:2[89]|[3-8][0-9])[0-9]{12}"
    r"|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}|62[0-9]{14,17}|(?:50|5[6-9]|6[0-9])[0-9]{14,17}"
)
_IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}[0-9]{2}(?=[ \u00a0-]?[A-Za-z0-9])")
_IBAN_SHORTEST, _IBAN_LONGEST = 15, 34
_PHONE = re.compile(r"[0-9](?:[\s().\-/\u2010-\u2015\u00a0]{0,4}[0-9]){6}")
_PHONE_WORDS = re.compile(
    r"(?i:\b(?:call|phone|tel|telephone|mobile|cell|whatsapp|sms|fax|ring|reach|text me|t[eé]l[eé]?fono?|telefon|handy|"
    r"mobil|m[oó]vil|portable|celular|rufnummer|dial)\b)"
)
_IPV4 = re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}(?![\w:])")


class Redactor:
    """Finds the wanted kinds; equal for equal arguments."""

    def __init__(self, kinds: Sequence[RedactedKind], regions: Sequence[str] = ()) -> None:
        """Prepare.

        Args:
            kinds: what is taken out; nothing where empty.
            regions: countries, as ``privacy.regions``.

        Raises:
            BadInputError: a region is unknown to what needs it.
        """
        # Longer and surer forms first: an IBAN must not lose its digits to a phone number.
        self._kinds = [kind for kind in ("email", "iban", "card", "id_number", "ip", "phone") if kind in kinds]
        self._regions = tuple(dict.fromkeys(regions))
        self._finders: dict[str, Callable[[str], Spans]] = {
            "email": self._emails, "iban": self._ibans, "card": self._cards,
            "id_number": self._id_numbers, "ip": self._addresses, "phone": self._phones,
        }  # fmt: skip
        self._check_regions()

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def redact(self, text: str, counts: Counter[str] | None = None) -> str:
        """``text`` with a marker in the place of whatever was found, and ``counts`` raised by kind."""
        while True:
            found = 0
            for kind in self._kinds:
                spans = self._finders[kind](text)
                if not spans:
                    continue
                text, replaced = _marked(text, spans, f"[{kind.upper()}]")
                found += replaced
                if counts is not None:
                    counts[kind] += replaced
            # What stood in the way of another match is a marker now: until a pass finds nothing.
            if not found:
                return text

    def finds(self, text: str) -> dict[str, int]:
        """How many of each kind ``text`` has; empty after ``redact``."""
        found = {kind: len(self._finders[kind](text)) for kind in self._kinds}
        return {kind: count for kind, count in found.items() if count}

    @cached_property
    def _numbers(self) -> list[Callable[[str], Spans]]:
        return [one.spans for one in id_numbers(self._regions)]

    def _emails(self, text: str) -> Spans:
        return [found.span() for found in _EMAIL.finditer(text)] if "@" in text else []

    def _ibans(self, text: str) -> Spans:
        return [span for found in _IBAN.finditer(text) if (span := _iban_at(text, found.start()))]

    def _cards(self, text: str) -> Spans:
        return [found.span() for look in _CARDS for found in look.finditer(text) if _is_card(found[0])]

    def _id_numbers(self, text: str) -> Spans:
        return [span for spans in self._numbers for span in spans(text)]

    def _addresses(self, text: str) -> Spans:
        return [found.span() for look in (_IPV4, _IPV6) for found in look.finditer(text) if _is_address(found[0])]

    def _phones(self, text: str) -> Spans:
        # The matcher takes a thousand times as long as this look, and most texts have no seven digits in a row.
        if not _PHONE.search(text):
            return []
        from phonenumbers import Leniency, PhoneNumberMatcher

        spans: Spans = []
        for region in self._regions or (None,):
            unsure: Spans = []
            for found in PhoneNumberMatcher(text, region, leniency=Leniency.VALID):
                sure = found.raw_string.startswith("+") or said_before(text, found.start, _PHONE_WORDS)
                # Ten digits alone may as well be the number of an order.
                if sure or not found.raw_string.isdecimal():
                    (spans if sure else unsure).append((found.start, found.end))
            if unsure:  # digits in groups are a number only in groups that its country uses
                strict = PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING)
                grouped = {(found.start, found.end) for found in strict}
                spans += [span for span in unsure if span in grouped]
        return spans

    def _check_regions(self) -> None:
        if "id_number" in self._kinds and (unknown := sorted(set(self._regions) - set(REGIONS))):
            raise BadInputError(
                f"privacy.regions: id numbers of {', '.join(unknown)} are not known; known are {', '.join(REGIONS)}"
            )
        if "phone" in self._kinds:
            from phonenumbers import SUPPORTED_REGIONS

            if unknown := sorted(set(self._regions) - set(SUPPORTED_REGIONS)):
                raise BadInputError(f"privacy.regions: {', '.join(unknown)}: no such country; expected US, DE, ...")


def _marked(text: str, spans: Spans, marker: str) -> tuple[str, int]:
    """``text`` with ``marker`` over each span, those that overlap as one; and how many markers."""
    parts, end, count = [], 0, 0
    for start, stop in _merged(spans):
        parts += [text[end:start], marker]
        end, count = stop, count + 1
    return "".join([*parts, text[end:]]), count


def _merged(spans: Spans) -> Iterator[tuple[int, int]]:
    start, stop = -1, -1
    for left, right in sorted(spans):
        if left < stop:
            stop = max(stop, right)
            continue
        if stop >= 0:
            yield start, stop
        start, stop = left, right
    if stop >= 0:
        yield start, stop


def _is_card(number: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"[^0-9]", "", number)
    return _ISSUERS.fullmatch(digits) is not None and bool(luhn.is_valid(digits))


def _iban_at(text: str, start: int) -> tuple[int, int] | None:
    """The span of a valid IBAN that begins at ``start``, also in groups; its country says how long it is."""
    from stdnum import iban

    number, place = "", start
    while place < len(text) and len(number) < _IBAN_LONGEST:
        sign = text[place]
        place += 1
        if not (sign.isascii() and sign.isalnum()):
            if sign in " \u00a0-" and text[place - 2].isalnum():
                continue
            return None
        number += sign
        ends = place == len(text) or not text[place].isalnum()
        if len(number) >= _IBAN_SHORTEST and ends and iban.is_valid(number):
            return start, place
    return None


def _is_address(text: str) -> bool:
    if ":" in text and sum(bool(group) for group in text.split(":")) < 3:
        return False  # A::B is code far more often than an address
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
