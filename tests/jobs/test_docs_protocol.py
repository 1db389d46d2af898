"""The page for authors of other clients leaves out nothing that the code says."""

import re
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pylon.jobs import kinds
from pylon.jobs.announcement import announcement_draft, withdrawal_draft
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import Status, feedback_draft
from pylon.jobs.heartbeat import heartbeat_draft
from pylon.jobs.parameters import JobParameters
from pylon.jobs.payload import open_payload
from pylon.jobs.request import open_draft, private_draft
from pylon.jobs.result import Finish, result_draft
from pylon.nostr.event import EventDraft, Tag

from . import examples as ex

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def codes_section() -> str:
    return PAGE.split("### Codes\n")[1].split("\n### ")[0]


def drafts() -> list[EventDraft]:
    """Everything that can be said, from values that leave no field empty."""
    open_address = replace(ex.ADDRESS, private=False)
    request = ex.plain_request()
    made = [
        private_draft(ex.REQUEST, ex.PROVIDER.public, ex.CUSTOMER_KEYS, created_at=ex.NOW),
        open_draft(ex.REQUEST, ex.PROVIDER.public, salt="5a", created_at=ex.NOW),
        announcement_draft(ex.ANNOUNCEMENT, created_at=ex.NOW),
        withdrawal_draft(ex.PROVIDER.public, "pylon", created_at=ex.NOW),
        heartbeat_draft(ex.HEARTBEAT, created_at=ex.NOW),
        cancel_draft((ex.REQUEST_ID,), 5940, ex.PROVIDER.public, created_at=ex.NOW),
    ]
    for address in (ex.ADDRESS, open_address):
        feedback, result = replace(ex.FEEDBACK, address=address), replace(ex.RESULT, address=address)
        made.append(feedback_draft(feedback, ex.PROVIDER_KEYS, created_at=ex.NOW))
        made.append(result_draft(result, ex.PROVIDER_KEYS, request=request, created_at=ex.NOW))
    return made


def tags_inside(draft: EventDraft) -> tuple[Tag, ...]:
    tags = dict(tag if len(tag) > 1 else (tag[0], "") for tag in draft.tags if len(tag) < 3)
    if "encrypted" not in tags:
        return ()
    # A conversation has one key, whoever wrote: either side opens it by naming the other.
    keys, peer = (
        (ex.PROVIDER_KEYS, ex.CUSTOMER.public) if draft.kind < 6_000 else (ex.CUSTOMER_KEYS, ex.PROVIDER.public)
    )
    return open_payload(keys, peer, draft.content, tags.get("encoding")).tags


def test_every_tag_is_documented():
    names = {tag[0] for draft in drafts() for tag in (*draft.tags, *tags_inside(draft))}
    assert {"encoding", "request", "account-seen", "offset"} <= names
    missing = {name for name in names if not re.search(rf'\["{name}"[\],]', PAGE)}
    assert not missing


@pytest.mark.parametrize("name", [name for name in JobParameters.__dataclass_fields__ if name != "schema"])
def test_every_parameter_is_documented(name):
    assert f'["param", "{name}", ' in PAGE


def test_every_parameter_of_the_code_stands_on_the_wire_under_its_name():
    # `schema` is the second value of `format`.
    assert {tag[1] for tag in ex.PARAMETERS.to_tags()} == set(JobParameters.__dataclass_fields__) - {"schema"}


def test_every_kind_is_documented():
    numbers = {value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, int)}
    assert numbers | kinds.RESULT_KINDS >= {draft.kind for draft in drafts()}
    first_column = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| "))
    assert not {kind for kind in numbers | kinds.RESULT_KINDS if not re.search(rf"\b{kind}\b", first_column)}


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_is_documented_with_whether_to_try_elsewhere(code):
    (row,) = [line for line in codes_section().splitlines() if line.startswith(f"| `{code}` |")]
    assert row.endswith("| yes |" if code.elsewhere else "| no |")


@pytest.mark.parametrize("word", [*Status, *Finish, kinds.SCHEMA])
def test_every_status_and_finish_is_documented(word):
    assert f"`{word}`" in PAGE or f'"{word}"' in PAGE


def test_every_field_of_a_heartbeat_is_documented():
    content = orjson.loads(heartbeat_draft(ex.HEARTBEAT, created_at=ex.NOW).content)
    assert not {name for name in content if f"`{name}`" not in PAGE}


def test_the_page_names_no_code_or_parameter_that_does_not_exist():
    assert set(re.findall(r"^\| `(\w+)` \|", codes_section(), re.MULTILINE)) == set(ErrorCode)
    assert set(re.findall(r'\["param", "(\w+)"', PAGE)) <= set(JobParameters.__dataclass_fields__)
