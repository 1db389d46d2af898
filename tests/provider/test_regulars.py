from pylon.provider.intake.regulars import Regulars


def test_the_customers_unseen_for_longest_are_forgotten_first():
    regulars = Regulars(2)
    regulars.add(("a", "b"))
    regulars.add(("a",))
    regulars.add(("c",))
    assert [key in regulars for key in "abc"] == [True, False, True]
