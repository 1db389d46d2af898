from pylon.jobs.codes import ErrorCode


def test_only_what_depends_on_the_request_alone_is_the_same_everywhere():
    assert {code.value for code in ErrorCode if not code.elsewhere} == {"malformed", "expired", "cancelled"}
