from pylon.jobs.answer import first_tags


def test_of_each_name_the_first_tag_with_enough_values_counts():
    tags = (("usage", "1"), ("usage", "1", "2"), ("usage", "3", "4"), ("finish",), ("finish", "stop"), ("model", "m"))
    assert first_tags(tags, {"usage": 3, "model": 4}) == {"usage": ("usage", "1", "2"), "finish": ("finish", "stop")}
