"""Addresses and numbers of people are found in their usual forms; years, prices and numbers of orders are not."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardloop.config import PrivacySettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.redaction import Redactor

_ALL = Redactor(["email", "phone", "card", "id_number", "iban", "ip"], ["US", "GB", "DE"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail anna.smith+x@example.co.uk.", "mail [EMAIL]."),
        ("call (202) 555-0143 or +44 20 7946 0958 now", "call [PHONE] or [PHONE] now"),
        ("202-555-0143 or 202.555.0143", "[PHONE] or [PHONE]"),
        ("my phone: 2025550143", "my phone: [PHONE]"),
        ("card 4111 1111 1111 1111 12/26", "card [CARD] 12/26"),
        ("4111111111111111", "[CARD]"),
        ("amex 3782-822463-10005", "amex [CARD]"),
        ("to DE89 3704 0044 0532 0130 00 and more", "to [IBAN] and more"),
        ("gb29nwbk60161331926819", "[IBAN]"),
        ("ssn 219-09-9998", "ssn [ID_NUMBER]"),
        ("My SSN is 457555461", "My SSN is [ID_NUMBER]"),
        ("NINO AB123456C", "NINO [ID_NUMBER]"),
        ("Steuer-ID 86 095 742 719", "Steuer-ID [ID_NUMBER]"),
        ("from 192.168.1.17 and 2001:db8::ff00:42:8329", "from [IP] and [IP]"),
        ("a@b.example and a@b.example", "[EMAIL] and [EMAIL]"),
        ("a@b.example- thanks, a@b.example-thanks, _a@b.example_", "[EMAIL]- thanks, [EMAIL]-thanks, [EMAIL]_"),
        ("a@b.example2", "[EMAIL]2"),
        ("a@b.xn--p1ai, a@b.XN--P1AI-", "[EMAIL], [EMAIL]-"),
    ],
)
def test_what_is_found(text: str, expected: str) -> None:
    counts: Counter[str] = Counter()
    assert _ALL.redact(text, counts) == expected
    assert counts.total() == expected.count("[")


@pytest.mark.parametrize(
    "text",
    [
        "in 1984, on 2023-10-12 at 10:30:45",
        "costs $1,234,567.00, 12.50 or 1999,99 EUR",
        "order number 1234567890123, order 2025550143",
        "4111 1111 1111 1112 has a wrong check digit",
        "DE89 3704 0044 0532 0130 01 has wrong check digits",
        "000-12-3456 was never issued",
        "version 1.2.3, std::vector, A::B, 999.1.1.1",
        "isbn 978-3-16-148410-0, 82-993545-2-8, room 22936722 49",
        "3.14159265358979, 1 000 000 000, scores 4 5 3 2 1 4 5 3 2 1 2",
        "pages 100-200, 300-400, user@localhost, @name",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert _ALL.redact(text) == text


_PIECES = st.one_of(
    st.text(alphabet="0123456789 -.()+/@:ABCDxyz\u00a0,", max_size=30),
    st.sampled_from(
        ["4111 1111 1111 1111", "DE89370400440532013000", "+44 20 7946 0958", "a@b.example", "219-09-9998", "10.0.0.1",
         "phone 2025550143", "[EMAIL]", "\n", "2001:db8::1:2"]
    ),
    st.text(max_size=12),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(_PIECES, max_size=6).map("".join))
def test_nothing_that_is_found_is_left_and_a_second_pass_changes_nothing(text: str) -> None:
    once = _ALL.redact(text)
    assert _ALL.finds(once) == {}
    assert _ALL.redact(once) == once


def test_only_the_wanted_kinds_are_taken_out() -> None:
    assert Redactor(["email"]).redact("a@b.example, 10.0.0.1") == "[EMAIL], 10.0.0.1"
    assert not Redactor([])


def test_a_long_text_without_anything_takes_no_long_time() -> None:
    assert _ALL.redact("a" * 200_000) == "a" * 200_000
    assert _ALL.redact("." * 100_000 + "@") == "." * 100_000 + "@"


def test_regions_that_are_not_known_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"privacy\.regions: id numbers of QQ are not known; known are AT"):
        Redactor(["id_number"], ["QQ"])
    with pytest.raises(BadInputError, match=r"privacy\.regions: QQ: no such country"):
        Redactor(["phone"], ["QQ"])
    with pytest.raises(ValueError, match=r"regions is empty; name the countries"):
        PrivacySettings(redact=("id_number",))
