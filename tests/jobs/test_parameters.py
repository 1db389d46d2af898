import pytest

from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.parameters import MAX_STOP, MAX_STOPS, MAX_SYSTEM, JobParameters, parse_parameters

from . import examples as ex


def param(*values: str) -> tuple[str, ...]:
    return ("param", *values)


def test_what_is_left_open_says_nothing():
    assert JobParameters().to_tags() == ()
    assert parse_parameters([("i", "x", "text")]) == JobParameters()


def test_the_maximal_example_leaves_no_field_at_its_default():
    fields = JobParameters.__dataclass_fields__
    assert all(getattr(ex.PARAMETERS, name) != getattr(JobParameters(), name) for name in fields)
    assert parse_parameters(ex.PARAMETERS.to_tags()) == ex.PARAMETERS


def test_the_hyphens_of_the_standards_own_examples_are_read():
    tags = [param("model", "LLaMA-2"), param("top-k", "50"), param("top-p", "0.7"), param("frequency_penalty", "1")]
    assert parse_parameters(tags) == JobParameters(model="LLaMA-2", top_k=50, top_p=0.7, frequency_penalty=1.0)


@pytest.mark.parametrize(
    "tag",
    [
        ("param",),
        param("model"),
        param("model", ""),
        param("model", "x" * 201),
        param("system", "x" * (MAX_SYSTEM + 1)),
        param("max_tokens", "0"),
        param("max_tokens", "1000001"),
        param("max_tokens", "-1"),
        param("max_tokens", "1.0"),
        param("max_tokens", "٣"),
        param("max_tokens", "9" * 5_000),
        param("top_k", "1000001"),
        param("seed", str(2**63)),
        param("temperature", "2.1"),
        param("temperature", "nan"),
        param("temperature", "inf"),
        param("temperature", "-0.1"),
        param("temperature", " 0.5"),
        param("temperature", "0_1"),
        param("temperature", "٠.٥"),
        param("temperature", "0.5\n"),
        param("temperature", "1e999999999"),
        param("temperature", "0." + "1" * 40),
        param("top_p", "1.01"),
        param("top_p", ""),
        param("frequency_penalty", "-2.5"),
        param("messages", "true"),
        param("stream", "yes"),
        param("stop", ""),
        param("stop", "x" * (MAX_STOP + 1)),
        param("format", "json_schema"),
        param("format", "json_schema", ""),
        param("format", "json_schema", "x" * 100_001),
    ],
)
def test_a_value_out_of_range_is_malformed(tag):
    with pytest.raises(RequestError) as caught:
        parse_parameters([tag])
    assert caught.value.code is ErrorCode.MALFORMED


@pytest.mark.parametrize("value", ["0.5", ".5", "5e-1", "0.50", "1.", "2", "0"])
def test_numbers_are_read_as_other_languages_write_them(value):
    assert parse_parameters([param("temperature", value)]).temperature == float(value)


def test_plain_text_may_be_asked_for_by_name():
    assert parse_parameters([param("format", "text")]) == JobParameters()


@pytest.mark.parametrize("tag", [param("lang", "es"), param("schema", "{}"), param("format", "grammar")])
def test_an_unknown_parameter_is_not_passed_over(tag):
    with pytest.raises(RequestError) as caught:
        parse_parameters([tag])
    assert caught.value.code is ErrorCode.UNSUPPORTED_PARAM


def test_a_parameter_given_twice_is_malformed_in_either_spelling():
    with pytest.raises(RequestError, match="top_k must be given once"):
        parse_parameters([param("top_k", "1"), param("top-k", "2")])


def test_at_most_sixteen_stops_are_taken():
    stops = [param("stop", str(n)) for n in range(MAX_STOPS)]
    assert len(parse_parameters(stops).stop) == MAX_STOPS
    with pytest.raises(RequestError, match="stop"):
        parse_parameters([*stops, param("stop", "x")])
