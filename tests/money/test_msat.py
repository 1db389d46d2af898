import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MoneyError
from pylon.money.msat import MAX_MSAT, Msat, parse_msat, parse_signed_msat, sats_text

AMOUNTS = st.integers(0, MAX_MSAT)


@pytest.mark.parametrize("value", [1.0, "1", None, True, 1.5, b"1"])
def test_only_whole_numbers_are_amounts(value):
    with pytest.raises(TypeError):
        Msat(value)


@pytest.mark.parametrize("value", [-1, MAX_MSAT + 1, 10**30])
def test_an_amount_out_of_range_is_refused(value):
    with pytest.raises(MoneyError):
        Msat(value)


@given(AMOUNTS, AMOUNTS)
def test_sums_are_exact_and_stay_amounts(a, b):
    if a + b <= MAX_MSAT:
        assert type(Msat(a) + b) is type(a + Msat(b)) is Msat
        assert Msat(a) + Msat(b) == a + b
    else:
        with pytest.raises(MoneyError):
            Msat(a) + Msat(b)
    if a >= b:
        assert Msat(a) - Msat(b) == a - b
    else:
        with pytest.raises(MoneyError):
            Msat(a) - Msat(b)


def test_a_sum_of_many_is_an_amount():
    assert sum([Msat(1), Msat(2), Msat(3)], Msat(0)) == Msat(6)
    assert type(sum([Msat(1), Msat(2)])) is Msat


@pytest.mark.parametrize("operation", [lambda a: a + 0.5, lambda a: a - 0.5, lambda a: a * 1.5, lambda a: a / 2])
def test_no_float_comes_out_of_an_amount(operation):
    with pytest.raises(TypeError):
        operation(Msat(1_000))


def test_sats_are_asked_for_by_name():
    assert Msat.from_sats(21) == 21_000
    assert Msat(21_000).whole_sats() == 21
    assert Msat(20_001).sats_up() == 21
    assert Msat(21_000).sats_up() == 21
    with pytest.raises(MoneyError):
        Msat(1_500).whole_sats()


@pytest.mark.parametrize(
    ("msat", "text"),
    [
        (12_000, "12 sat"),
        (1_500, "1.5 sat"),
        (1, "0.001 sat"),
        (0, "0 sat"),
        (-2_050, "-2.05 sat"),
        (1_234_567_000, "1,234,567 sat"),
    ],
)
def test_people_read_sats_and_msat_only_where_needed(msat, text):
    assert sats_text(msat) == text


def test_play_money_is_named():
    assert sats_text(3_000, "play sat") == "3 play sat"


def test_text_of_an_amount_is_its_digits_so_that_no_tag_holds_a_unit():
    assert str(Msat(1_500)) == f"{Msat(1_500)}" == "1500"
    assert repr(Msat(1_500)) == "Msat(1500)"


@given(AMOUNTS)
def test_an_amount_survives_the_wire(amount):
    assert parse_msat(str(Msat(amount))) == amount


@pytest.mark.parametrize(
    "text", ["", "01", "+1", "-1", " 1", "1 ", "1.0", "1e3", "٣", "1_000", str(MAX_MSAT + 1), "9" * 40]
)
def test_other_spellings_of_an_amount_are_refused(text):
    with pytest.raises(MoneyError):
        parse_msat(text)


@pytest.mark.parametrize("text", ["-0", "--1", "-01", "-", str(-MAX_MSAT - 1)])
def test_other_spellings_of_a_difference_are_refused(text):
    with pytest.raises(MoneyError):
        parse_signed_msat(text)


def test_a_difference_may_be_below_zero():
    assert parse_signed_msat("-1500") == -1_500
    assert parse_signed_msat("0") == 0
