"""Files of prompts, as people have them."""

import csv
import io
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from pylon.cli import prompt_forms, prompts, stdin
from pylon.cli.output import out
from pylon.cli.prompts import check_output, read_jobs, with_ids, write_file
from pylon.errors import UsageError
from tests.node import programs

# What means something to a reader of JSON or of tables, and a letter of two bytes and one of four.
WORDS = st.text("a \"\\',;[]{}\t\r\nü𝄞", max_size=12)


def jobs(tmp_path, name: str, content: bytes, options=None):
    file = tmp_path / name
    file.write_bytes(content)
    return [job for _, job in read_jobs(file, options or {})]


def complaint(tmp_path, name: str, content: bytes) -> str:
    with pytest.raises(UsageError) as caught:
        jobs(tmp_path, name, content)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path, name):
    content = {"a.txt": "hi\n", "a.jsonl": '{"prompt":"hi"}\n', "a.csv": "prompt,n\nhi,1\n"}[name]
    assert jobs(tmp_path, name, b"\xef\xbb\xbf" + content.encode()) == [{"prompt": "hi"}]


def test_lines_end_as_on_any_system_and_blank_ones_are_none(tmp_path):
    assert jobs(tmp_path, "a.txt", b"one\r\n\r\n  \ntwo") == [{"prompt": "one"}, {"prompt": "two"}]


def test_a_line_of_a_text_file_is_a_prompt_whatever_it_begins_with(tmp_path):
    assert jobs(tmp_path, "a.txt", b"{curly} words\n") == [{"prompt": "{curly} words"}]
    assert ":1: this is not valid JSON" in complaint(tmp_path, "a", b"{curly} words\n")


def test_what_a_line_says_goes_over_the_options(tmp_path):
    lines = b'{"prompt":"a","seed":2}\n{"prompt":"b"}\n'
    assert jobs(tmp_path, "A.JSONL", lines, {"seed": 1}) == [{"prompt": "a", "seed": 2}, {"prompt": "b", "seed": 1}]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[1]", "a.jsonl:2: this is not a JSON object"),
        ('{"text":"a"}', "a.jsonl:2: `prompt` or `messages` is missing"),
        ('{"prompt":"a","messages":[]}', "a.jsonl:2: both `prompt` and `messages` are given"),
        ('{"messages":"hi"}', "a.jsonl:2: `messages` is not a list"),
        ('{"prompt":"a","id":true}', "a.jsonl:2: `id` is neither a string nor a number"),
        ('{"prompt":"a","id":null}', "a.jsonl:2: `id` is neither a string nor a number"),
        ('{"prompt":5}', "a.jsonl:2: `prompt` is not text"),
        ("{", "a.jsonl:2: this is not valid JSON"),
    ],
)
def test_a_bad_line_of_json_is_named_with_what_is_wrong(tmp_path, line, says):
    assert says in complaint(tmp_path, "a.jsonl", f'{{"prompt":"a"}}\n{line}\n'.encode())


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_file_that_is_not_utf8_is_refused_and_says_so(tmp_path, name):
    assert "not UTF-8" in complaint(tmp_path, name, "prompt,ä\n".encode("latin-1"))
    assert "not UTF-8" in complaint(tmp_path, name, "prompt\nhi\n".encode("utf-16"))


def test_a_prompt_in_a_csv_is_as_long_as_it_is(tmp_path):
    assert jobs(tmp_path, "p.csv", b"prompt\n" + b"a" * 200_000) == [{"prompt": "a" * 200_000}]


def test_a_csv_without_that_column_or_with_a_row_too_short_is_refused(tmp_path):
    assert complaint(tmp_path, "a.csv", b"text\nhi\n").endswith("no column named prompt: the only column is `text`")
    assert complaint(tmp_path, "a.csv", b"Prompt,x\nhi,1\n").endswith(": the columns are `Prompt`, `x`")
    assert complaint(tmp_path, "a.csv", b"\n").endswith("no column named prompt: it is empty")
    assert "a.csv:3: the prompt is missing" in complaint(tmp_path, "a.csv", b"n,prompt\n1,hi\n2\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'id,prompt\n1,a\n2,"open\n3,b\n4,c\n', ":3: this row opens a quote that is never closed"),
        (b'id,prompt\n1,"Hello" he said\n2,b\n', ":2: there is text after a closing quote"),
        (
            b'id,prompt\n1,"open\n2,b\n3,"fine"\n',
            ":4: there is text after a closing quote, in the row that begins on line 2",
        ),
        (b"prompt\nfirst this, then that\n", ":2: this line has more columns than the first"),
        (b"prompt,n,prompt\na,1,b\n", ": two columns are named prompt"),
    ],
    ids=["open", "closed early", "closed by the next", "comma", "twice"],
)
def test_a_table_that_would_lose_rows_or_words_is_refused_where_it_begins(tmp_path, content, says):
    assert complaint(tmp_path, "p.csv", content).endswith("p.csv" + says)


def test_empty_cells_behind_the_last_column_are_no_words(tmp_path):
    assert jobs(tmp_path, "p.csv", b'prompt\na,,\n\n"b ""c"" d"\n5" disk\n') == [
        {"prompt": "a"}, {"prompt": 'b "c" d'}, {"prompt": '5" disk'}
    ]  # fmt: skip


def test_a_table_with_tabs_is_read_as_one(tmp_path):
    assert jobs(tmp_path, "p.TSV", b'n\tprompt\n1\thi, you\n2\t"a\tb"\n') == [
        {"prompt": "hi, you"},
        {"prompt": "a\tb"},
    ]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("name", ["p.json", "p.jsonl", "p"])
def test_an_array_of_json_is_its_elements_each_with_its_line(tmp_path, name, indent):
    asked = [{"prompt": "a ü ] , \n", "seed": 1}, 'b\t"', {"messages": [["user", "x"]]}]
    file = tmp_path / name
    file.write_text("\n" + json.dumps(asked, indent=indent), "utf-8")
    found = list(read_jobs(file, {"top_k": 5}))
    assert [job for _, job in found] == [
        {"top_k": 5, **(one if isinstance(one, dict) else {"prompt": one})} for one in asked
    ]
    lines = file.read_text("utf-8").split("\n")
    ends = [lines[number - 1].rstrip(",]")[-1] for number, _ in found]
    assert ends == (["}"] * 3 if indent is None else ["}", '"', "}"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('["a",\n5]', ":2: this is not a JSON object"),
        (
            '["a",\n\n{"prompt": "b",\n "max_tokns": 3}]',
            ":4: unknown field 'max_tokns'; did you mean `max_tokens`?",
        ),
        ('["a",\n"b"\n', ":3: the JSON array is incomplete, or a comma is missing"),
        ('["a",\n"b]\n', ":2: this is not valid JSON"),
        ('["a" "b"]', ":1: the JSON array is incomplete, or a comma is missing"),
        ('["a",\n]', ":2: there is a comma after the last element of the array"),
        ('["a"]\n["b"]\n', ":2: there is extra text after the JSON array"),
        ('["a", "\\ud800"]', ":1: this is not valid JSON"),
        ("[" * 100_000, ":1: this is not valid JSON"),
        ('{"data":\n ["a"]}', ":1: this is not valid JSON"),
    ],
)
def test_what_is_wrong_with_an_array_is_named_with_its_line(tmp_path, content, says):
    assert complaint(tmp_path, "p.json", content.encode()).endswith("p.json" + says)


def test_where_an_array_lies_deeper_the_hint_takes_it_out(tmp_path):
    (tmp_path / "p.json").write_text('{"data": ["a"]}')
    with pytest.raises(UsageError) as caught:
        list(read_jobs(tmp_path / "p.json", {}))
    assert "`jq .data FILE > prompts.json`" in caught.value.hint


def test_a_line_that_begins_with_a_bracket_is_a_prompt_where_lines_are_and_an_array_elsewhere(tmp_path):
    assert jobs(tmp_path, "a.txt", b'["a", "b"]\n') == [{"prompt": '["a", "b"]'}]
    assert jobs(tmp_path, "a", b"[1] Who was it?\n[2] And when?\n")[1] == {"prompt": "[2] And when?"}
    assert jobs(tmp_path, "a.json", b'{"prompt": "a"}\n{"prompt": "b"}\n') == [{"prompt": "a"}, {"prompt": "b"}]
    assert jobs(tmp_path, "a.json", b"[]") == []


def test_an_array_is_read_to_a_bound_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(prompt_forms, "_MOST_ARRAY", 20)
    assert "a JSON array may be" in complaint(tmp_path, "p.json", b'[\n"a",\n' + b'"b",\n' * 9 + b'"c"]')


@given(st.lists(st.one_of(WORDS, st.fixed_dictionaries({"prompt": WORDS, "seed": st.integers(0, 9)})), max_size=6))
def test_any_array_comes_back_as_it_was_written(asked):
    for written in (json.dumps(asked), json.dumps(asked, indent=1), json.dumps(asked, ensure_ascii=False)):
        found = [job for _, job in prompt_forms.reader_of(".json")(io.StringIO(written, newline=""), ".json")]
        assert found == [one if isinstance(one, dict) else {"prompt": one} for one in asked]


@given(st.lists(WORDS.filter(bool), max_size=6))
def test_any_table_that_a_writer_made_comes_back(asked):
    for suffix, delimiter in prompt_forms.TABLES.items():
        written = io.StringIO(newline="")
        csv.writer(written, delimiter=delimiter).writerows([["id", "prompt"], *enumerate(asked)])
        written.seek(0)
        assert [job["prompt"] for _, job in prompt_forms.reader_of(suffix)(written, suffix)] == asked


def test_a_csv_keeps_the_lines_inside_of_a_prompt(tmp_path):
    assert jobs(tmp_path, "a.csv", b'prompt\r\n"one\r\ntwo"\r\n') == [{"prompt": "one\r\ntwo"}]


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_jobs(tmp_path / name, {}))


def test_standard_input_is_read_and_one_that_was_closed_is_told_of(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO('{"prompt":"a"}\nplain ü\n'.encode())))
    assert [job["prompt"] for _, job in read_jobs(Path("-"), {})] == ["a", "plain ü"]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        list(read_jobs(Path("-"), {}))


def test_a_field_that_no_job_has_is_named_with_its_line_and_what_was_meant(tmp_path):
    said = complaint(tmp_path, "p.jsonl", b'{"prompt":"a","id":1}\n{"prompt":"b","max_tokns":3}\n')
    assert said.endswith("p.jsonl:2: unknown field 'max_tokns'; did you mean `max_tokens`?")


@pytest.mark.parametrize("name", ["p.txt", "p.csv"])
def test_bytes_of_no_text_are_refused_though_they_are_utf8(tmp_path, name):
    assert f"{name}:2: the file contains NUL bytes" in complaint(tmp_path, name, b"prompt\na\0b\n")


def test_a_prompt_that_no_event_carries_refuses_no_file_and_each_comes_with_its_line(tmp_path):
    file = tmp_path / "p.csv"
    noise = random.Random(1).randbytes(60_000).hex()
    file.write_text(f'prompt\n"two\nlines"\n{noise}\n')
    assert list(read_jobs(file, {})) == [(3, {"prompt": "two\nlines"}), (4, {"prompt": noise})]


def test_a_map_is_bounded_in_prompts_and_bytes_and_says_which_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(prompts, "MOST_JOBS", 2)
    monkeypatch.setattr(prompts, "_MOST_BYTES", 2 << 20)
    assert len(jobs(tmp_path, "p.txt", b"a\nb\n")) == 2
    assert complaint(tmp_path, "p.txt", b"a\nb\nc\n").endswith(":3: a map takes at most 2 prompts")
    monkeypatch.setattr(prompts, "MOST_JOBS", 1_000)
    said = complaint(tmp_path, "p.txt", b"ab" * 10_000 + b"\n" + (b"ab" * 10_000 + b"\n") * 110)
    assert said.endswith(":105: a map takes at most 2 MiB of prompts in all")


@pytest.mark.skipif(shutil.which("awk") is None, reason="it is cut up by awk")
@pytest.mark.parametrize(("most", "most_bytes"), [(3, 2**20), (1_000, 400)])
def test_the_command_that_cuts_a_file_up_makes_parts_that_a_map_takes(tmp_path, monkeypatch, most, most_bytes):
    monkeypatch.setattr(prompts, "MOST_JOBS", most)
    monkeypatch.setattr(prompts, "_MOST_BYTES", most_bytes)
    file = tmp_path / "my prompts.jsonl"
    lines = [f' {{"prompt": "the {n}th question, of some länge"}}' for n in range(20)]
    file.write_text("\n".join(lines), "utf-8")
    with pytest.raises(UsageError) as caught:
        list(read_jobs(file, {}))
    [command] = re.findall("`(.*)`", caught.value.hint)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=20)
    parts = [list(read_jobs(part, {})) for part in sorted(tmp_path.glob("part-*.jsonl"))]
    assert len(parts) > 2
    assert [job["prompt"].split()[1] for part in parts for _, job in part] == [f"{n}th" for n in range(20)]


@pytest.mark.parametrize(
    ("name", "says"),
    [("p.csv", "each with the header line"), ("p.json", "several arrays"), ("-", "one part at a time")],
)
def test_what_lines_do_not_cut_up_is_told_of_otherwise(tmp_path, monkeypatch, name, says):
    monkeypatch.setattr(prompts, "MOST_JOBS", 2)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\nc\n")))
    (tmp_path / "p.csv").write_bytes(b'prompt\na\n"b\n2"\nc\n')
    (tmp_path / "p.json").write_bytes(b'["a", "b", "c"]')
    with pytest.raises(UsageError) as caught:
        list(read_jobs(Path("-") if name == "-" else tmp_path / name, {}))
    assert says in caught.value.hint and "`" not in caught.value.hint


def test_a_nul_that_json_writes_out_is_part_of_its_prompt(tmp_path):
    assert jobs(tmp_path, "p.jsonl", b'{"prompt":"a"}\n{"prompt":"b\\u0000"}\n')[1] == {"prompt": "b\0"}
    assert "p.jsonl:1: the file contains NUL bytes" in complaint(tmp_path, "p.jsonl", b'{"prompt":"a\0"}\n')


def test_a_row_that_asks_nothing_keeps_its_place_and_is_no_question_by_the_commands_system_prompt(tmp_path):
    rows = jobs(tmp_path, "p.csv", b'prompt,n\na,1\n,2\n" ",3\n', {"system": "Be brief.", "seed": 1})
    assert rows == [{"prompt": "a", "system": "Be brief.", "seed": 1}, *({"prompt": p, "seed": 1} for p in ("", " "))]
    own = jobs(tmp_path, "p.jsonl", b'{"prompt":"","system":"Say hello."}\n', {"system": "Be brief."})
    assert own == [{"prompt": "", "system": "Say hello."}]
    chat = b'{"messages":[{"role":"user","content":"hi"}]}\n'
    assert jobs(tmp_path, "p.jsonl", chat, {"system": "Be brief."})[0]["system"] == "Be brief."


def test_a_model_whose_name_is_a_formula_is_text_to_a_spreadsheet_and_an_answer_stays_what_it_is(tmp_path):
    answer = {"index": 0, "text": "=1+1", "model": "=HYPERLINK(1)", "error": None}
    failure = {"index": 1, "text": None, "error": {"message": "nobody"}}
    write_file([answer, {**answer, "model": "m=1"}, failure], tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["text"], row["model"]) for row in rows] == [("=1+1", "'=HYPERLINK(1)"), ("=1+1", "m=1"), ("", "")]


def test_a_chat_stands_in_the_place_of_a_prompt_and_counts_as_one(tmp_path, monkeypatch):
    chat = [{"role": "user", "content": "hi"}]
    line = json.dumps({"messages": chat, "id": 7}).encode()
    assert jobs(tmp_path, "p.jsonl", line, {"seed": 1}) == [{"messages": chat, "id": 7, "seed": 1}]
    line = json.dumps({"prompt": "", "messages": chat}).encode()
    assert jobs(tmp_path, "q.jsonl", line, {}) == [{"messages": chat}], "an empty prompt beside a chat is none"
    monkeypatch.setattr(prompts, "_MOST_BYTES", 20)
    assert "of prompts in all" in complaint(tmp_path, "p.jsonl", line)


def test_the_form_of_openais_batches_is_named_with_what_makes_lines_of_it(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"custom_id":"a","method":"POST","url":"/v1","body":{"messages":[]}}')
    with pytest.raises(UsageError) as caught:
        list(read_jobs(tmp_path / "b.jsonl", {}))
    assert "OpenAI batch" in caught.value.hint and "jq -c '{id: .custom_id" in caught.value.hint


def test_a_result_has_the_id_of_its_line_also_in_a_csv(tmp_path):
    rows = [{"index": 0, "text": "a", "error": None}, {"index": 1, "text": None, "error": {"message": "nobody"}}]
    named = with_ids(rows, {0: "q-7", 1: 8})
    assert [(row["id"], list(row)[:2]) for row in named] == [("q-7", ["index", "id"]), (8, ["index", "id"])]
    assert with_ids(rows, {}) == rows and "id" not in with_ids(rows, {0: 1})[1]
    write_file(named, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as stream:
        assert [row["id"] for row in csv.DictReader(stream)] == ["q-7", "8"]


def test_on_a_terminal_a_result_is_one_line_with_its_index_and_its_answer(monkeypatch):
    monkeypatch.setattr(out, "_width", 30)
    texts = ["4711", "a long\nanswer \x1b[2Jof two lines and more", *["x"] * 8, None]
    rows = [{"index": n, "text": text, "error": None} for n, text in enumerate(texts)]
    rows[-1]["error"] = {"message": "nobody"}
    with out.capture() as shown:
        prompts.print_answers(rows)
    lines = shown.get().splitlines()
    assert lines[:2] == [" 0  4711", " 1  a long answer [2Jof two l…"] and lines[-1] == "10  no answer: nobody"


def test_where_results_cannot_be_written_is_seen_beforehand(tmp_path):
    prompts_file = tmp_path / "prompts.csv"
    check_output(tmp_path / "new.csv", prompts_file)
    (tmp_path / "old.csv").touch()
    check_output(tmp_path / "old.csv", prompts_file)
    for bad in (tmp_path, tmp_path / "no" / "folder.csv", tmp_path / "old.csv" / "x.csv"):
        with pytest.raises(typer.BadParameter, match="folder"):
            check_output(bad, prompts_file)


def test_results_are_never_written_over_their_prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.touch()
    (tmp_path / "link.jsonl").symlink_to(file)
    for same in (file, tmp_path / "." / "link.jsonl"):
        with pytest.raises(typer.BadParameter, match="is the prompts file"):
            check_output(same, file)


def test_results_replace_what_a_link_names_and_a_failure_leaves_all_as_it_was(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.jsonl", tmp_path / "link.jsonl"
    real.write_text("old")
    link.symlink_to(real)
    with pytest.raises(TypeError):
        write_file([{"index": 0}, {"index": object()}], link)
    assert real.read_text() == "old" and list(real.parent.iterdir()) == [real]
    write_file([{"index": 0}], link)
    assert link.is_symlink() and real.read_text() == '{"index":0}\n'


@pytest.mark.parametrize(
    ("given", "is_read", "complaint"),
    [
        (b"\xef\xbb\xbfhow \xc3\xbc?\n", "how ü?\n", ""),
        (b"one\ntwo\xff\xfe", "", "^standard input:2: .*not UTF-8"),
        (None, "", "standard input is closed"),
    ],
    ids=["text", "binary", "closed"],
)
async def test_a_prompt_from_standard_input_is_text_or_told_of(monkeypatch, given, is_read, complaint):
    monkeypatch.setattr(sys, "stdin", None if given is None else io.TextIOWrapper(io.BytesIO(given)))
    if complaint:
        with pytest.raises(UsageError, match=complaint):
            await stdin.text()
    else:
        assert await stdin.text() == is_read


async def test_a_bad_line_is_a_plain_error_of_the_command_that_names_file_and_line(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": \n')
    env = programs.environment(tmp_path / "home", "ws://127.0.0.1:9")
    code, printed, told = await programs.run("map", str(file), env=env)
    assert (code, printed["error"]["type"]) == (2, "UsageError")
    assert told.startswith(f"pylon: {file}:2: this is not valid JSON\n") and "Usage" not in told
