"""The points of public keys."""

import coincurve
import pytest

from pylon.nostr.crypto.agreement import shared_x
from pylon.nostr.crypto.point import Point, point_of
from pylon.nostr.event import EventDraft, verify
from pylon.nostr.keys import SecretKey


def test_a_point_is_found_once_for_signatures_and_for_key_agreement():
    ours, theirs = SecretKey.generate(), SecretKey.generate()
    before = point_of.cache_info().misses
    verify(theirs.sign(EventDraft(1, "hello")))
    shared_x(ours, theirs.public)
    assert point_of.cache_info().misses == before + 1


def test_both_forms_are_those_that_the_library_reads_from_the_key():
    key = SecretKey(b"\x07" * 32).public
    point = Point(key)
    assert point.whole.format().hex() == "02" + key
    assert point.x_only == coincurve.PublicKeyXOnly(bytes.fromhex(key))


@pytest.mark.parametrize("key", ["", "zz" * 32, "00" * 31, "ff" * 32, "00" * 33])
def test_what_is_no_key_has_no_point(key: str):
    with pytest.raises(ValueError, match=r"."):
        Point(key)
