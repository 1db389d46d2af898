"""A file of questions: what a line may hold, and what is said of one that is wrong."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import UsageError
from pylon.node.home import Home
from pylon.node.rlm import run as rlm
from pylon.node.rlm.many import answered, ask_many, rows_of
from pylon.node.rlm.run import Question
from pylon.sections import Config


def test_a_line_may_have_a_context_of_its_own_and_fields_for_whoever_reads_the_reports():
    text = (
        '{"question": " a ", "id": 7}\n\n{"question": "b", "context": "x.txt"}\n'
        '{"question": "c\u2028d", "text": "long", "gold": [1]}\r\n'
    )
    rows = rows_of(text, "set.jsonl")
    assert [(row.question, row.context, row.value) for row in rows] == [
        ("a", None, None),
        ("b", ("x.txt",), None),
        ("c\u2028d", None, "long"),
    ]
    assert rows[0].given["id"] == 7 and rows[2].given == {"question": "c\u2028d", "gold": [1]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"not valid JSON\n"),
        ("[]", "not a JSON object"),
        ('{"text": "t"}', "`question` is missing"),
        ('{"question": 1}', "`question` must be text"),
        ('{"question": " "}', "`question` is empty"),
        ('{"question": "q", "context": []}', "a path or a list of paths"),
        ('{"question": "q", "context": [1]}', "a path or a list of paths"),
        ('{"question": "q", "text": 1}', "must be text"),
        ('{"question": "q", "text": "t", "context": "c"}', "not both"),
    ],
)
def test_a_line_that_is_wrong_is_named(line, said):
    with pytest.raises(UsageError, match=f"^set.jsonl:2: .*{said}"):
        rows_of('{"question": "q"}\n' + line, "set.jsonl")


def test_a_file_without_a_question_is_told_what_one_looks_like():
    with pytest.raises(UsageError) as caught:
        rows_of("\n \n", "-")
    assert '"question"' in caught.value.hint


_TEXTS = st.text(alphabet="ab \n\u2028\x00", max_size=4)
_VALUES = st.one_of(st.none(), st.integers(0, 9), _TEXTS, st.lists(_TEXTS, max_size=2))


@given(st.lists(st.dictionaries(st.sampled_from(["question", "context", "text", "id"]), _VALUES), max_size=4))
def test_whatever_a_file_holds_it_is_rows_or_a_usage_error(lines):
    try:
        rows = rows_of("\n".join(orjson.dumps(line).decode() for line in lines), "set.jsonl")
    except UsageError:
        return
    assert len(rows) == len(lines) and all(row.question.strip() for row in rows)


@pytest.mark.parametrize("each", [False, True])
async def test_all_questions_have_one_purse_unless_each_is_to_have_the_whole_budget(monkeypatch, tmp_path, each):
    purses, told = [], []

    async def ask(*_, shared_budget, **__):
        purses.append(shared_budget)
        return {}

    monkeypatch.setattr(rlm, "ask", ask)
    rows, asked = rows_of('{"question": "q"}\n' * 2, "-"), Question("", ("book.txt",), wishes={"max_sats": 7})
    home = Home(tmp_path, "play")
    async for _ in ask_many(home, Config(), None, rows, asked, budget_each=each, tell=told.append):
        pass
    if each:
        assert purses == [None, None]
    else:
        assert purses[0] is purses[1] and purses[0].budget.limits.msat == 7_000
    assert told == [f"2 questions, {'each' if each else 'together'} for at most 7 play sat"]


SET = rows_of('{"question": "q", "n": 0}\n{"question": "q", "text": "t"}\n{"question": "r"}\n', "-")


def report(place, answer="a", **fields):
    given = {"index": place, "given": SET[place].given, "answer": answer, "partial": False}
    return orjson.dumps({**given, **fields}).decode() + "\n"


async def test_what_the_runs_of_a_set_wait_for_is_told_once(monkeypatch, tmp_path):
    told = []

    async def ask(_home, _config, _node, question, *, tell, **__):
        tell("1 provider is loading its model")
        tell(f"of {question.question} alone")
        return {}

    monkeypatch.setattr(rlm, "ask", ask)
    rows = rows_of('{"question": "a"}\n{"question": "b"}', "-")
    asked = ask_many(Home(tmp_path, "play"), Config(), None, rows, Question("", ("book.txt",)), tell=told.append)
    assert len([report async for report in asked]) == 2
    assert told[1:] == ["1 provider is loading its model", "of a alone", "of b alone"]


def test_a_question_with_a_whole_answer_is_done_whatever_other_reports_it_has():
    kept = report(0) + report(1, None, partial=True) + "\n" + report(2, "half", partial=True)
    assert answered(kept, "reports", SET) == {0}
    assert answered(kept + report(2) + report(0, None, partial=True), "reports", SET) == {0, 2}
    assert answered("", "reports", SET) == frozenset()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (report(0)[:30], "reports:2: this is not a report"), ("[]", "not a report"),
        ('{"index": "x"}', "not a report"),
        (report(2, index=1), "not a report for question 1"), (report(2, index=9), "not a report for question 9"),
        (report(2, index=-1), "not a report for question -1"),
    ],
)  # fmt: skip
def test_what_is_no_report_of_this_set_is_named_and_nothing_is_asked(line, says):
    with pytest.raises(UsageError, match=says):
        answered(report(0) + line, "reports", SET)


async def test_what_is_left_out_is_not_asked(monkeypatch, tmp_path):
    async def ask(*_, **__):
        return {}

    monkeypatch.setattr(rlm, "ask", ask)
    rows, asked = rows_of('{"question": "q"}\n' * 4, "-"), Question("", ("book.txt",))
    reports = ask_many(Home(tmp_path, "play"), Config(), None, rows, asked, leave_out=frozenset({0, 2}))
    assert sorted([report["index"] async for report in reports]) == [1, 3]
