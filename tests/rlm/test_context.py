"""Contexts: what a run works on, by file, without copies in this process."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pylon.clock import SystemClock
from pylon.errors import UsageError
from pylon.nostr.bech32 import nip19, nip49
from pylon.nostr.keys import SecretKey
from pylon.rlm.budget import Limits
from pylon.rlm.context import from_paths, from_value
from pylon.rlm.rlm import Rlm
from pylon.rlm.root import ScriptedRoot
from pylon.rlm.runs import Run
from pylon.rlm.sublm import FunctionSubLM
from pylon.rlm.trajectory import Trajectory, TrajectoryError
from tests.rlm.fakes import InProcessRepl


def load(*given, shape="auto", spool=None, stdin=None):
    return from_paths([str(one) for one in given], shape=shape, spool=spool, stdin=stdin)


def test_one_file_is_a_text_and_its_characters_are_counted(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("grüße\xff".encode() + b"\xff")
    context = load(file)
    assert (context.source.kind, context.chars, context.size) == ("text", 7, 10)
    assert "str of 7 characters" in context.describe()


def test_several_files_a_folder_and_a_glob_are_texts_by_name(tmp_path, monkeypatch):
    (tmp_path / "d" / "deep").mkdir(parents=True)
    (tmp_path / "d" / "b.md").write_text("two")
    (tmp_path / "d" / "deep" / "a.md").write_text("one")
    (tmp_path / "d" / ".hidden").write_text("no")
    (tmp_path / "d" / "picture.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "d" / "link.md").symlink_to("/etc/passwd")
    context = load(tmp_path / "d")
    assert [file.name for file in context.source.files] == ["b.md", "deep/a.md"]
    assert (context.source.kind, context.skipped) == ("files", 1)
    monkeypatch.chdir(tmp_path)
    assert [file.name for file in load("d/*.md").source.files] == ["d/b.md", "d/link.md"]
    assert len(load(str(tmp_path / "**" / "*.md")).source.files) == 3
    assert load("d/b.md", "d/b.md", "d/deep/a.md").chars == 6


def test_standard_input_is_spooled(tmp_path):
    context = load("-", spool=tmp_path / "spool", stdin=io.BytesIO(b"from a pipe"))
    assert (context.source.kind, context.chars) == ("text", 11)
    assert context.source.files[0].path.read_bytes() == b"from a pipe"


def test_json_and_a_dict_of_a_single_file_are_asked_for(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('["x"]')
    assert load(file, shape="json").source.kind == "json"
    assert load(file, shape="files").source.kind == "files"
    assert load(file).source.kind == "text"


@pytest.mark.parametrize(("value", "kind"), [("text", "text"), (["a", "b"], "json"), ({"a": 1}, "json")])
def test_values_of_a_program_become_files(tmp_path, value, kind):
    assert from_value(value, tmp_path / "v").source.kind == kind


@pytest.mark.parametrize("given", [("nowhere.txt",), ("*.nothing",), ()])
def test_what_is_not_there_is_named(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        load(*given)


def test_text_of_several_files_is_refused(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    with pytest.raises(UsageError, match="one file"):
        load(tmp_path / "a", tmp_path / "b", shape="text")


LOOK = """
import resource, sys
from pylon.rlm.context import from_paths
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
context = from_paths([sys.argv[1]], shape="auto", spool=None)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(context.chars, after - before)
"""


def test_a_hundred_megabytes_are_never_in_this_process(tmp_path):
    file = tmp_path / "large"
    with file.open("wb") as out:
        for _ in range(100):
            out.write(b"0123456789abcdef" * (1 << 16))
    ran = subprocess.run([sys.executable, "-c", LOOK, str(file)], capture_output=True, env=os.environ, check=True)
    chars, grown = map(int, ran.stdout.split())
    per_unit = 1 if sys.platform == "darwin" else 1024
    assert chars == 100 << 20
    assert grown * per_unit < 20 << 20


def home(folder: Path) -> Path:
    """What Pylon keeps, as `pylon init` makes it."""
    (folder / "play").mkdir(parents=True)
    (folder / "config.toml").write_text("[node]\n")
    (folder / "play" / "identity").write_text(f"{nip19.nsec(SecretKey.generate())}\n")
    (folder / "play" / "notes.txt").write_text("beside a key\n")
    return folder


def test_no_home_and_no_key_goes_to_strangers_with_a_folder_or_a_glob(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home(tmp_path / "house" / "mine")
    (tmp_path / "house" / "a.txt").write_text("a text")
    (tmp_path / "house" / "backup").write_text("  " + nip49.encrypt(SecretKey.generate(), "passphrase"))
    (tmp_path / "house" / "link.txt").write_text(f"WALLET=nostr+walletconnect://{'b' * 64}?secret=")
    (tmp_path / "house" / "upper.txt").write_text("\ufeff" + nip19.nsec(SecretKey.generate()).upper())
    (tmp_path / "house" / ".env").write_text("hidden")
    (tmp_path / "house" / ".git").mkdir()
    (tmp_path / "house" / ".git" / "config").write_text("hidden")
    for given in (["house"], ["**/*"], ["house/**/*"]):
        found = from_paths(given, shape="auto", spool=tmp_path / "spool")
        assert [Path(file.name).name for file in found.files] == ["a.txt"]
        assert found.skipped
    with pytest.raises(UsageError, match="no text"):
        from_paths(["house/mine"], shape="auto", spool=tmp_path / "spool")


def test_what_only_looks_like_a_home_or_a_key_is_read(tmp_path):
    (tmp_path / "project" / "src" / "identity").mkdir(parents=True)
    (tmp_path / "project" / "config.toml").touch()
    (tmp_path / "project" / "src" / "a.txt").write_text("nsec1 is how keys begin")
    for given in (tmp_path / "project", f"{tmp_path}/project/**/*.txt"):
        assert [Path(file.name).name for file in load(given, spool=tmp_path / "s").files if file.chars] == ["a.txt"]


@pytest.mark.parametrize("pattern", ["../project/*", "../project/**/*", "./../project/*", "{}/project/*"])
def test_no_way_of_naming_a_folder_asks_for_what_is_hidden_in_it(tmp_path, monkeypatch, pattern):
    for folder in ("project/.git", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.txt", ".env", ".git/config"):
        (tmp_path / "project" / name).write_text("text")
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = load(pattern.format(tmp_path), spool=tmp_path / "s")
    assert [Path(file.name).name for file in found.files] == ["a.txt"]


def test_a_key_that_is_named_itself_is_refused_and_hidden_files_that_are_asked_for_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="secret key"):
        from_paths([str(home(tmp_path / "mine") / "play" / "identity")], shape="auto", spool=tmp_path / "spool")
    (tmp_path / ".notes").write_text("asked for")
    assert len(from_paths([".no*"], shape="auto", spool=tmp_path / "spool").files) == 1


def test_an_empty_name_is_not_the_folder_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UsageError, match="empty"):
        from_paths([""], shape="auto", spool=tmp_path / "spool")


def test_what_is_neither_file_nor_folder_is_told_of_as_such(tmp_path):
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        from_paths(["/dev/null"], shape="auto", spool=tmp_path / "spool")


@pytest.mark.parametrize("before", [9_000, (1 << 20) - 30, 3 << 20])
@pytest.mark.parametrize("secret", ["key", "KEY", "link"])
def test_a_secret_is_found_wherever_it_stands_also_in_standard_input(tmp_path, before, secret):
    key = nip19.nsec(SecretKey.generate())
    secret = {"key": key, "KEY": key.upper(), "link": f"nostr+walletconnect://{'b' * 64}?relay="}[secret]
    text = f"{'x' * before} {secret}\nand more"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("a text")
    (tmp_path / "d" / "log.txt").write_text(text)
    found = load(tmp_path / "d")
    assert [file.name for file in found.source.files] == ["a.txt"] and found.skipped == 1
    with pytest.raises(UsageError, match="secret key"):
        load(tmp_path / "d" / "log.txt")
    with pytest.raises(UsageError, match="standard input contains a secret key"):
        load("-", spool=tmp_path / "spool", stdin=io.BytesIO(text.encode()))
    assert not (tmp_path / "spool").exists()


def test_characters_that_could_not_be_read_are_counted_and_those_of_the_file_itself_are_not(tmp_path):
    path = tmp_path / "old.txt"
    path.write_bytes("Größe\ufffd".encode() + "Größe".encode("latin-1") + b"\xe2\x82")
    context = from_paths([str(path)], shape="auto", spool=tmp_path / "s")
    assert context.replaced == 3
    assert context.chars == len(path.read_bytes().decode("utf-8", "replace"))
    [doubt] = context.doubts()
    assert doubt == f"{path} is not UTF-8: 3 of its 12 characters could not be read and were replaced by U+FFFD"


@pytest.mark.parametrize("at", range(-3, 4))
def test_a_replacement_character_across_two_pieces_is_the_files_own(tmp_path, at):
    path = tmp_path / "text"
    path.write_text("x" * (1_048_576 + at) + "\ufffd" * 3)
    assert from_paths([str(path)], shape="auto", spool=tmp_path / "s").doubts() == []


def test_files_without_a_character_are_refused_and_an_empty_value_is_doubted(tmp_path):
    for name in ("empty.jsonl", "other"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"the context is empty: .*empty\.jsonl contains nothing") as refused:
        load(tmp_path / "empty.jsonl")
    assert "pylon ask" in refused.value.hint
    with pytest.raises(UsageError, match="each of 2 files contains nothing"):
        load(tmp_path / "empty.jsonl", tmp_path / "other")
    with pytest.raises(UsageError, match="stdin contains nothing"):
        load("-", spool=tmp_path / "spool", stdin=io.BytesIO())
    (tmp_path / "other").write_text("x")
    assert load(tmp_path / "empty.jsonl", tmp_path / "other").doubts() == []
    # Whoever gives one from a program means it.
    [doubt] = from_value("", tmp_path / "spool").doubts()
    assert "is empty" in doubt


def test_a_pdf_and_a_binary_file_that_are_named_are_doubted(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n\0\xff")
    (tmp_path / "b.bin").write_bytes(b"MZ\0\0\xff")
    (tmp_path / "c.txt").write_text("Größe")
    names = [str(tmp_path / name) for name in ("a.pdf", "b.bin", "c.txt")]
    pdf, binary = from_paths(names, shape="auto", spool=tmp_path / "s").doubts()
    assert "a.pdf is a PDF" in pdf and "Convert it to text first" in pdf
    assert "b.bin is not text: it contains NUL bytes, and 1 of its 5 characters" in binary


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_text_of_windows_is_called_what_it_is_with_what_makes_it_readable(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("\ufeffGröße and more".encode(encoding))
    [doubt] = from_paths([str(tmp_path / "a.txt")], shape="auto", spool=tmp_path / "s").doubts()
    assert "a.txt is UTF-16" in doubt and doubt.endswith("iconv -f UTF-16 -t UTF-8")


def test_of_many_doubtful_files_some_are_named_and_the_others_counted(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.txt").write_bytes(b"\xff")
    doubts = from_paths([str(tmp_path)], shape="auto", spool=tmp_path / "s").doubts()
    assert len(doubts) == 9 and doubts[-1] == "and 4 more files are not UTF-8 text"


def test_of_a_folder_a_pdf_is_left_out(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4\n" + b"text " * 9_000)
    (tmp_path / "b.txt").write_text("b")
    context = from_paths([str(tmp_path)], shape="auto", spool=tmp_path / "s")
    assert ([file.name for file in context.files], context.skipped) == (["b.txt"], 1)


def test_files_of_two_folders_that_are_called_alike_are_both_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "README.md").write_text(folder)
    (tmp_path / "a" / "notes.txt").write_text("n")
    context = from_paths(["a", "b", str(tmp_path / "b")], shape="auto", spool=tmp_path / "s")
    assert [(file.name, file.path.read_text()) for file in context.files] == [
        ("a/README.md", "a"), ("notes.txt", "n"), ("b/README.md", "b")
    ]  # fmt: skip


def test_a_file_that_is_named_in_several_ways_is_there_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    for given in (["a.txt", "a.txt"], ["a.txt", "*.txt"], ["a.txt", str(tmp_path)], ["a.txt", "./a.txt"]):
        [file] = from_paths(given, shape="auto", spool=tmp_path / "s").files
        assert file.name == "a.txt"
    assert from_paths(["a.txt", "a.txt"], shape="text", spool=tmp_path / "s").source.kind == "text"


def test_a_context_that_cannot_be_kept_says_why(tmp_path):
    (tmp_path / "file").touch()
    for load_one in (
        lambda spool: from_value("text", spool),
        lambda spool: from_paths(["-"], shape="auto", spool=spool, stdin=io.BytesIO(b"text")),
    ):
        with pytest.raises(TrajectoryError, match="cannot be stored with its run"):
            load_one(tmp_path / "file" / "spool")


def test_standard_input_is_not_read_twice(tmp_path):
    with pytest.raises(UsageError, match="read only once"):
        from_paths(["-", "-"], shape="auto", spool=tmp_path / "s", stdin=io.BytesIO(b"text"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take names in UTF-8 alone")
def test_a_name_that_reads_like_that_of_bytes_that_are_no_utf_8_is_told_from_it(tmp_path):
    (tmp_path / "a\udce9").write_text("bytes")
    (tmp_path / "a\\xe9").write_text("signs")
    given = [str(tmp_path / "a\udce9"), str(tmp_path / "a\\xe9")]
    files = from_paths(given, shape="auto", spool=tmp_path / "s").files
    assert [(file.name.removeprefix(str(tmp_path)), file.path.read_text()) for file in files] == [
        ("/a\\xe9", "bytes"), ("/a\\xe9 (2)", "signs")
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take names in UTF-8 alone")
async def test_names_that_are_no_utf_8_are_readable_distinct_and_harm_no_run(tmp_path):
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    for name in (b"a\xe9.txt", b"a\xe8.txt", b"a\n\x1b[2Jb.pdf"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"%PDF-" if b"pdf" in name else b"text")
    context = load(folder, str(folder / "a\n\x1b[2Jb.pdf"))
    names = [file.name for file in context.source.files]
    assert names[:2] == ["a\\xe8.txt", "a\\xe9.txt"]
    # What a terminal would obey is not told to people.
    assert all(doubt.isprintable() for doubt in context.doubts()) and context.doubts()
    trajectory = Trajectory(tmp_path / "run", SystemClock())
    root = ScriptedRoot(["```repl\nFINAL(sorted(context)[0])\n```"])
    rlm = Rlm(root, FunctionSubLM(str.upper), InProcessRepl, trajectory, SystemClock())
    texts = replace(context.source, files=context.source.files[:1])
    outcome = await rlm.run("which?", replace(context, source=texts), Limits())
    trajectory.close()
    assert outcome.answer == "a\\xe8.txt"
    [begun, *_] = Run(tmp_path / "run").events()
    assert begun["context"]["files"][0]["path"].endswith("caf\\xe9/a\\xe8.txt")
