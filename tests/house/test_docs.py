"""The docs say what the code does: no more, no less."""

import importlib.util
import re
from pathlib import Path

import pytest

from pylon import errors
from pylon.errors import PylonError
from pylon.jobs.codes import ErrorCode

ROOT = Path(__file__).resolve().parents[2]


def pages():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PAGES


@pytest.mark.parametrize(
    "name", ["docs/commands.md", "docs/settings.md", "docs/sandbox.md", "config/pylon.example.toml"]
)
def test_a_page_made_from_the_code_is_up_to_date(name):
    assert (ROOT / name).read_text(encoding="utf-8") == pages()[name]()


def test_every_error_with_an_exit_code_of_its_own_is_in_the_table():
    text = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, PylonError)]
    for kind in kinds:
        if "exit_code" in vars(kind):
            assert re.search(rf"\| {kind.exit_code} \|.*`{kind.__name__}`", text), kind


def test_every_job_error_code_is_documented():
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    for code in ErrorCode:
        assert f"`{code.value}`" in text


def documents():
    return sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"])


def commands() -> set[str]:
    return set(
        re.findall(r"^## `pylon (.+)`$", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    )


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_only_commands_that_exist_are_named(path):
    known = commands() | {command.split()[0] for command in commands()}
    for named in re.findall(r"`(?:\.venv/bin/)?pylon ([a-z-]+)", path.read_text(encoding="utf-8")):
        assert named in known, f"{path.name} names `pylon {named}`"


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_page_stands_in_the_index():
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\S+\.md)\)", index)) == pages


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_scripts_and_files_that_are_named_exist(path):
    for target in re.findall(
        r"`\.?/?((?:scripts|config|tests|tools|training)/[\w./-]+)`", path.read_text(encoding="utf-8")
    ):
        assert (ROOT / target).exists(), f"{path.name} names {target}"


def test_every_control_call_is_documented():
    from pylon.node.household.calls import HouseholdCalls
    from pylon.node.methods import Methods

    methods = object.__new__(Methods)
    methods._household = object.__new__(HouseholdCalls)
    text = (ROOT / "docs" / "control.md").read_text(encoding="utf-8")
    for call in methods.table():
        assert f"`{call}`" in text, call


def test_every_metric_is_documented():
    text = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "pylon" / "gateway").glob("*.py")))
    metrics = set(re.findall(r'"(pylon_[a-z_]+)", "[A-Zc-g]', code)) | set(re.findall(r'"(pylon_[a-z_]+)",\s', code))
    assert len(metrics) >= 15
    for metric in metrics:
        assert f"`{metric}`" in text, metric
