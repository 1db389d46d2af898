"""`pylon mcp` as programs use it: the protocol library's own client starts it and speaks to it over its pipes, with a
real relay, a real node and a real sandbox; the stand-in engine answers."""

import sys
from contextlib import AsyncExitStack

import anyio
import orjson
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from pylon import config as settings
from pylon.errors import UsageError
from pylon.node.mcp.paths import Readable, default_roots
from pylon.node.mcp.runs import check_wishes
from pylon.relay.server import RelayServer
from tests.house.test_floors import PACKAGE, files, imported
from tests.node import programs


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


def client_of(env, folder):
    command = ["-m", "pylon.cli.main", "mcp"]
    return Client(stdio_client(StdioServerParameters(command=sys.executable, args=command, env=env, cwd=folder)))


def said(result):
    """What a client's model reads is what its program gets."""
    assert orjson.loads(result.content[0].text) == result.structured_content
    return result.structured_content


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_client_asks_follows_and_cancels(tmp_path, stack):
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url, PYLON_INFERENCE__INSTANT_DELAY_S="0.3")
    await programs.run("init", env=env)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "long.txt").write_text(" ".join(map(str, range(60_000))))
    # Far from read when its run is cancelled.
    (folder / "longest.txt").write_text(" ".join(map(str, range(600_000))))
    async with client_of(env, folder) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"rlm", "rlm_status", "rlm_cancel"}
        assert {"question", "paths", "text", "max_sats", "wait"} <= set(tools["rlm"].input_schema["properties"])

        # Nobody is there yet: an error that says what to do.
        result = await client.call_tool("rlm", {"question": "q", "text": "some text"})
        assert result.is_error and said(result)["error"]["type"] == "UnreachableError"
        assert "pylon start" in said(result)["error"]["hint"]

        # The server holds nothing between runs, so a node starts beside it.
        await programs.start(env, stack)
        heard = []

        async def progress(done, total, message):
            heard.append((done, total, message))

        asked = {"question": "What is it?", "paths": ["long.txt"]}
        with anyio.fail_after(60):
            # Until its model is ready.
            while (result := await client.call_tool("rlm", asked, progress_callback=progress)).is_error:
                assert said(result)["error"]["type"] == "UnreachableError"
                heard.clear()
        report = said(result)
        assert not result.is_error and report["answer"].startswith("stand-in answer")
        assert (report["state"], report["partial"], report["failed"]) == ("ended", False, 0)
        assert report["calls"] > 1 and report["strategy"] == "map-reduce"
        assert [done for done, _, _ in heard] == sorted({done for done, _, _ in heard}) and len(heard) > 1
        assert "sub-calls back" in heard[-1][2]
        assert said(await client.call_tool("rlm_status", {"run": report["id"]})) == report

        # What a person is warned of on the screen is in the report, of a run and of one that is asked after.
        assert report["warnings"] == []
        (folder / "x.pdf").write_bytes(b"%PDF-1.4\nnot a text")
        doubtful = said(await client.call_tool("rlm", {"question": "What is it?", "paths": ["x.pdf"]}))
        assert "PDF" in doubtful["warnings"][0] and doubtful["answer"]
        assert said(await client.call_tool("rlm_status", {"run": doubtful["id"]})) == doubtful
        for text in ("", " \n"):
            empty = await client.call_tool("rlm", {"question": "What is it?", "text": text})
            assert empty.is_error and said(empty)["error"]["type"] == "UsageError"

        asked = {"paths": ["longest.txt"]}
        begun = said(await client.call_tool("rlm", {**asked, "question": "And that?", "wait": False}))
        assert begun["state"] == "running"
        with anyio.fail_after(60):
            while not said(await client.call_tool("rlm_status", {"run": begun["id"]}))["in_flight"]:
                await anyio.sleep(0.05)
        ended = said(await client.call_tool("rlm_cancel", {"run": begun["id"]}))
        assert (ended["id"], ended["state"]) == (begun["id"], "cancelled")

        # A client that lets its own call go ends the run too.
        with anyio.CancelScope() as scope:

            async def enough(done, total, message):
                if done:
                    scope.cancel()

            await client.call_tool("rlm", {**asked, "question": "And what else?"}, progress_callback=enough)
        assert scope.cancelled_caught
        with anyio.fail_after(30):
            while (now := said(await client.call_tool("rlm_status")))["state"] == "running":
                await anyio.sleep(0.05)
        assert now["state"] == "cancelled"

        # The command line sees the same runs.
        _, listed, _ = await programs.run("rlm", "list", env=env)
        assert {report["id"], begun["id"], now["id"]} <= {row["id"] for row in listed["runs"]}


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_a_client_may_not_do_is_a_typed_error(tmp_path):
    env = programs.environment(tmp_path / "home", "ws://127.0.0.1:9")
    await programs.run("init", env=env)
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("x")
    async with client_of(env, folder) as client:
        for asked, words in (
            ({"paths": ["../secret.txt"]}, "may not be read"),
            ({"paths": ["/etc/passwd"]}, "may not be read"),
            ({"paths": [str(tmp_path / "home" / "play" / "identity")]}, "may not be read"),
            ({"text": "x", "paths": ["a"]}, "not both"),
            ({}, "either"),
            ({"text": "x", "max_sats": 1_000_000}, "max_sats may be at most 1000 here"),
            ({"text": "x", "max_sat": 1}, "rlm: max_sat"),
            ({"text": "x", "max_sats": "many"}, "rlm: max_sats"),
            ({"text": "x", "question": ""}, "rlm: question"),
        ):
            result = await client.call_tool("rlm", {"question": "q", **asked})
            assert result.is_error, asked
            assert "pydantic" not in result.content[0].text
            assert result.is_error and said(result)["error"]["type"] == "UsageError"
            assert words in said(result)["error"]["message"]
        tools = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
        assert {schema["additionalProperties"] for schema in tools.values()} == {False}
        for tool in ("rlm_status", "rlm_cancel"):
            result = await client.call_tool(tool, {"run": "nope"})
            assert result.is_error and said(result)["error"]["type"] == "UsageError"


@pytest.fixture
def tree(tmp_path):
    """A folder that may be read, with a link out of it, something hidden, and Pylon's home in it."""
    root = tmp_path / "root"
    for folder in ("texts", ".hidden", "pylon-home"):
        (root / folder).mkdir(parents=True)
    for name in ("texts/a.txt", "texts/b.txt", ".hidden/c.txt", "texts/.env", "pylon-home/identity", "../out.txt"):
        (root / name).write_text(name)
    (root / "texts" / "link.txt").symlink_to(tmp_path / "out.txt")
    return root


def readable(root):
    return Readable([root], root / "pylon-home", root)


def test_files_folders_and_globs_below_the_root_are_read(tree):
    assert readable(tree).expand(["texts/a.txt", "texts"]) == (str(tree / "texts/a.txt"), str(tree / "texts"))
    assert readable(tree).expand([str(tree / "texts" / "[ab].txt")]) == tuple(
        str(tree / "texts" / name) for name in ("a.txt", "b.txt")
    )


def test_a_file_that_a_pattern_finds_in_several_ways_is_read_once(tree):
    (tree / "texts" / "deep" / "er").mkdir(parents=True)
    (tree / "texts" / "deep" / "er" / "d.txt").write_text("d")
    assert readable(tree).expand(["texts/**/*/**/*.txt"]) == (str(tree / "texts" / "deep" / "er" / "d.txt"),)


@pytest.mark.parametrize(
    "given",
    [
        "../out.txt", "/etc/hosts", "/etc/*", "..", "../*.txt", "texts/../../out.txt", "texts/*/../../../out.txt",
        "texts/link.txt", "texts/l*.txt", ".hidden/c.txt", "texts/.env", "pylon-home/identity", "pylon-home/*", ".",
        "~/x", "nothing*", "a\0b", "/nowhere/at/all",
    ],
)  # fmt: skip
def test_what_lies_elsewhere_is_hidden_or_is_pylons_own_is_not_read(tree, given):
    if given == "~/x":  # a folder of that name, not somebody's home
        assert readable(tree).expand([given]) == (str(tree / "~" / "x"),)
        return
    with pytest.raises(UsageError):
        readable(tree).expand([given])


def test_a_pattern_gives_nothing_hidden_and_nothing_of_pylons(tree):
    with pytest.raises(UsageError, match="own files"):
        readable(tree).expand(["p*/*"])
    assert readable(tree).expand(["*/*[ab].txt"]) == tuple(str(tree / "texts" / n) for n in ("a.txt", "b.txt"))


def test_a_server_started_in_a_home_folder_or_at_the_top_reads_nothing_unasked(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_roots(tmp_path) == default_roots(tmp_path.__class__("/")) == ()
    assert default_roots(tmp_path / "project") == (tmp_path / "project",)


def test_a_wish_may_lower_a_bound_and_never_raise_it():
    section = settings.parse({"network": "play", "rlm": {"max_sats": 50, "max_tokens": 0}}).rlm
    check_wishes(section, {"max_sats": 50, "max_tokens": 10**9, "max_wall_s": None, "sub_model": "any"})
    limited = section.model_copy(update={"max_tokens": 10})
    for asked in ({"max_sats": 51}, {"max_calls": 10**9}):
        with pytest.raises(UsageError):
            check_wishes(section, asked)
    for tokens in (11, 0):
        with pytest.raises(UsageError):
            check_wishes(limited, {"max_tokens": tokens})


def test_one_file_imports_the_protocols_library_and_one_command_imports_that_file():
    imports = {str(path.relative_to(PACKAGE)): imported(path) for path in files()}

    def importers(*names):
        return {path for path, found in imports.items() if found & set(names)}

    assert importers("mcp", "mcp.server.mcpserver", "mcp_types") == {"node/mcp/server.py"}
    assert importers("pylon.node.mcp.server") == {"cli/mcp.py"}
