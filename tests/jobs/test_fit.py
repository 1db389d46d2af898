"""What is said to fit an event does, whatever script it is written in."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import TooLargeError
from pylon.jobs import fit
from pylon.jobs.parameters import MAX_MODEL, JobParameters
from pylon.jobs.request import JobRequest, private_draft
from pylon.jobs.size import event_bytes
from pylon.money.accounts.receipt import AccountSeen
from pylon.money.msat import MAX_MSAT, Msat

from . import examples as ex

SCRIPTS = {
    # Without the quotation mark and the backslash, for which JSON takes two.
    "ASCII": [chr(n) for n in range(0x20, 0x7F) if chr(n) not in '"\\'],
    "Cyrillic": list(map(chr, range(0x410, 0x450))),
    "CJK": list(map(chr, range(0x4E00, 0xA000))),
    "emoji": list(map(chr, range(0x1F300, 0x1FB00))),
    "control characters": list(map(chr, range(1, 0x20))),
}


def text(script, size, seed=1):
    """Characters at random, which hardly compress: `size` bytes of UTF-8 at most."""
    rng = random.Random(seed)
    letters = SCRIPTS[script]
    return "".join(rng.choices(letters, k=size // len(letters[0].encode())))


def event_of(prompt, limit=10**9):
    """The longest event that a sub-call with this prompt can be."""
    terms = JobParameters(model="m" * MAX_MODEL, max_tokens=1_000_000, temperature=0.123456789)
    seen = AccountSeen(ex.EPOCH, 10**9, Msat(MAX_MSAT))
    job = JobRequest(prompt, terms, bid=Msat(MAX_MSAT), topup=Msat(MAX_MSAT), account_seen=seen, expiration=ex.NOW)
    return private_draft(job, ex.PROVIDER.public, ex.CUSTOMER_KEYS, created_at=ex.NOW, limit=limit)


@pytest.mark.parametrize("limit", [16_384, 65_536])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_prompt_of_the_longest_length_fits_in_any_script(script, limit):
    most = fit.prompt_bytes(limit)
    # JSON writes a control character in up to six.
    prompt = text(script, most // 6 if script == "control characters" else most)
    assert fit.fits(prompt, limit)
    assert event_bytes(event_of(prompt)) <= limit


def test_a_line_end_in_every_twenty_letters_is_provided_for():
    # Repeated so often that it is sent as it is: the other side takes no text that shrinks so much.
    prompt = (f"{'x' * 19}\n" * 3_000)[: fit.prompt_bytes()]
    assert fit.fits(prompt)
    assert event_bytes(event_of(prompt)) <= 65_536


def test_the_longest_length_is_no_less_than_it_has_to_be():
    prompt = text("ASCII", (fit.prompt_bytes() + 1_400) * 21 // 20)
    with pytest.raises(TooLargeError):
        event_of(prompt, 65_536)


@given(st.text(max_size=200), st.integers(1, 600), st.sampled_from(sorted(SCRIPTS)), st.integers(4_096, 20_000))
def test_what_is_said_to_fit_fits(word, times, script, limit):
    prompt = word * times + text(script, times * 20)
    if fit.fits(prompt, limit):
        assert event_bytes(event_of(prompt)) <= limit


@given(st.text(max_size=200), st.integers(1, 600), st.sampled_from(sorted(SCRIPTS)), st.integers(1_000, 4_000))
def test_what_is_said_to_be_a_misfit_fits_not_even_with_no_terms(word, times, script, more):
    prompt = word * times + text(script, times * 20 + more * 20)
    if fit.misfit(prompt):
        assert not fit.fits(prompt)
        with pytest.raises(TooLargeError):
            bare = JobRequest(prompt, JobParameters(), expiration=ex.NOW)
            private_draft(bare, ex.PROVIDER.public, ex.CUSTOMER_KEYS, created_at=ex.NOW)


def test_a_misfit_is_told_with_its_size_and_a_text_that_shrinks_is_none():
    assert "a prompt of 120,000 characters" in fit.misfit(text("ASCII", 120_000))
    assert "a prompt of 5,000,000 characters" in fit.misfit("x" * 5_000_000)
    shrinks = "".join(map("line {}\n".format, range(8_000)))
    assert fit.misfit(shrinks) == fit.misfit("short") == fit.misfit("\ud800" * 50_000) == ""


def test_a_long_text_that_compresses_well_fits():
    prompt = "".join(f"line {number}: the job took {number % 7} s\n" for number in range(4_000))
    assert len(prompt) > 2 * fit.prompt_bytes() and fit.fits(prompt)
    assert event_bytes(event_of(prompt)) <= 65_536


def test_what_no_payload_holds_does_not_fit_and_a_lone_surrogate_is_left_to_whoever_seals_it():
    assert not fit.fits("x" * 5_000_000)
    assert fit.fits("\ud800")
