import errno
import json
import os
import re
import stat
import subprocess
import sys
from typing import get_origin

import pytest
from typer.testing import CliRunner

from pylon import config
from pylon.cli.program import app
from pylon.errors import HomeBusyError, SetupError
from pylon.node import identity
from pylon.node.bank import BankHost, bank_socket
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.example import example_toml
from pylon.node.home import Home, HomeLock, open_home, private_folder
from pylon.node.household.members import HouseholdFile
from pylon.node.relay_settings import relay_limits
from pylon.node.settings import engine_spec, provider_settings
from pylon.nostr.bech32 import nip19
from pylon.nostr.keys import SecretKey
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer
from pylon.sections import Config


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.create()
    return home


def test_the_placeholder_of_the_documentation_is_no_relay(monkeypatch):
    monkeypatch.setenv("PYLON_RELAYS", '["wss://RELAY"]')
    with pytest.raises(SetupError, match="put a real"):
        config.parse({})


def test_only_the_owner_may_enter_a_home(home):
    for folder in (home.root, home.models, home.logs, home.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_new_homes_config_file_changes_nothing(home):
    assert config.load(home.config_file) == Config()


def test_making_a_home_again_keeps_its_settings(home):
    home.config_file.write_text('network = "regtest"\n')
    home.create()
    assert config.load(home.config_file).network == "regtest"


def test_the_example_in_the_repository_is_the_one_a_new_home_gets(request):
    assert (request.config.rootpath / "config" / "pylon.example.toml").read_text(encoding="utf-8") == example_toml()


def test_every_setting_of_the_example_is_read_when_its_mark_is_taken_away(tmp_path):
    text = "".join(
        line.removeprefix("# ") if " = " in line and line[2:3].islower() else line
        for line in example_toml().splitlines(keepends=True)
    )
    (tmp_path / "config.toml").write_text(text)
    assert config.load(tmp_path / "config.toml") == Config()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("relayz = []", "relayz"),
        ("[provider]\nprice = 1", "provider.price"),
        ('relays = ["http://example.org"]', "relays.0"),
        ("relays = []", "relays"),
        (f"relays = {[f'ws://{number}' for number in range(21)]}", "relays: it has 21 entries: the maximum is 20"),
        ("[inference]\nslots = 0", "inference.slots"),
        ("[inference]\nslots = true", "inference.slots: expected a number, not true"),
        ("[customer]\ntimeout_s = false", "customer.timeout_s: expected a number, not false"),
        ("[inference]\nslot = 3", r"inference\.slot: there is no such setting; did you mean `slots`\?"),
        ("[inferense]\nslots = 3", r"inferense: there is no such setting; did you mean `inference`\?"),
        ('pricing = "paid"', r"pricing: there is no such setting in this section; it belongs in \[provider\](?m:$)"),
        ("[inference]\nport = 3", r"inference\.port: there .* it belongs in \[relay\] or \[gateway\](?m:$)"),
        ("zzz = 3", r"zzz: there is no such setting(?m:$)"),
        ('network = "lightning"', "network"),
        ("network =", "TOML"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(tmp_path, text, named):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(SetupError, match=named):
        config.load(tmp_path / "config.toml")


@pytest.mark.parametrize(
    "url",
    [
        "ws://",
        "ws:///path",
        "ws://:7447",
        "ws://a b/",
        "ws://a\tb/",
        "ws://a\n",
        "ws://a/\u00e4",
        "ws://127.0.0.1:99999",
        "ws://127.0.0.1:0",
        "ws://127.0.0.1:abc",
        "ws://[::1",
        "http://a",
        "ws:a",
        "ws://me:secret@a",
        "ws://" + "a" * 300,
    ],
)
def test_a_relay_at_which_nobody_can_listen_is_named(url):
    with pytest.raises(SetupError, match=r"relays\.1: (a|the) relay address"):
        config.parse({"relays": ["ws://127.0.0.1:7601", url]})


@pytest.mark.parametrize(
    "url", ["ws://h", "wss://relay.example.org/path?a=b", "ws://[::1]:7447", "ws://10.0.0.1:65535/"]
)
def test_a_relay_at_which_somebody_can_is_taken_as_it_is_written(url):
    assert config.parse({"relays": [url]}).relays == [url]


def test_a_relay_that_is_written_twice_is_one():
    relays = ["ws://h", "ws://other/x", "ws://H/", "ws://h", "ws://other/x/"]
    assert config.parse({"relays": relays}).relays == ["ws://h", "ws://other/x", "ws://other/x/"]


def test_a_fault_in_the_environment_is_not_one_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text("[customer]\nwidth = 0\n")
    monkeypatch.setenv("PYLON_CUSTOMER__TIMEOUT_S", "soon")
    with pytest.raises(SetupError) as caught:
        config.load(tmp_path / "config.toml")
    of_file, of_environment = str(caught.value).split("; invalid settings in the environment: ")
    assert of_file.startswith(f"invalid settings in {tmp_path / 'config.toml'}: customer.width: ")
    assert of_environment.startswith("PYLON_CUSTOMER__TIMEOUT_S (customer.timeout_s): ")
    assert "pylon init" in caught.value.hint


def test_the_environment_overrides_the_file(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text("[inference]\nslots = 3\nmodel = 'kept'\n")
    monkeypatch.setenv("PYLON_INFERENCE__SLOTS", "5")
    section = config.load(tmp_path / "config.toml").inference
    assert (section.slots, section.model) == (5, "kept")


@pytest.mark.parametrize(
    ("variable", "text", "named"),
    [
        ("PYLON_RELAYS", "ws://one", "PYLON_RELAYS is not a JSON list"),
        ("PYLON_PROVIDER__TRUSTED", "npub1", "PYLON_PROVIDER__TRUSTED is not a JSON list"),
        ("PYLON_RELAYS", "7", "relays"),
        ("PYLON_INFERENCE__SLOTS", "many", "inference.slots"),
        ("PYLON_INFERENCE__SLOT", "5", "PYLON_INFERENCE__SLOT .inference.slot.: there is no such setting"),
        ("PYLON_INFERENZE__SLOTS", "5", "inferenze"),
        ("PYLON_INFERENCE", "mlx", "inference"),
    ],
)
def test_a_variable_that_does_not_fit_is_named(monkeypatch, variable, text, named):
    monkeypatch.setenv(variable, text)
    with pytest.raises(SetupError, match=named):
        config.parse({})


LISTS = [
    (f"{section}.{name}" if section else name, field)
    for section, model in [("", Config), *((one, field.annotation) for one, field in Config.model_fields.items())]
    if hasattr(model, "model_fields")
    for name, field in model.model_fields.items()
    if get_origin(field.annotation) is list
]


@pytest.mark.parametrize(("name", "field"), LISTS, ids=[name for name, _ in LISTS])
def test_a_list_that_is_none_is_shown_how_that_very_list_is_written(monkeypatch, name, field):
    variable = f"PYLON_{name.upper().replace('.', '__')}"
    monkeypatch.setenv(variable, "[one")
    with pytest.raises(SetupError) as caught:
        config.parse({})
    written = caught.value.hint.removeprefix(f"Write it as {variable}='").removesuffix("'.")
    assert json.loads(written) == field.examples[0] and written != '["one", "two"]'
    # It is one that would be taken.
    monkeypatch.setenv(variable, written)
    config.parse({})


@pytest.mark.parametrize(
    ("section", "name", "value", "said"),
    [
        ("relay", "port", 70_000, "70000 is too large: the maximum is 65,535"),
        ("inference", "slots", 0, "0 is too small: the minimum is 1"),
        ("customer", "timeout_s", 0, "0 is too small: it must be more than 0"),
        ("inference", "slots", 2.5, "2.5 is not a whole number"),
        ("inference", "slots", "many", '"many" is not a whole number'),
        ("customer", "timeout_s", [1], "[1] is not a number"),
        ("provider", "serve_open", "perhaps", '"perhaps" is neither true nor false'),
        ("provider", "name", 7, "7 is not text: put it in quotes"),
        ("provider", "name", "x" * 101, "it is longer than 100 characters"),
        ("provider", "trusted", "npub1", '"npub1" is not a list'),
        ("provider", "pricing", "fre", "\"fre\" is not one of the choices: 'free' or 'paid'"),
        ("provider", "max_queu", 1, "there is no such setting; did you mean `max_queue`?"),
    ],
)
def test_a_value_that_does_not_fit_is_told_of_in_plain_words(section, name, value, said):
    with pytest.raises(SetupError) as caught:
        config.parse({section: {name: value}})
    assert str(caught.value) == f"invalid settings in the given values: {section}.{name}: {said}"


def _numbers():
    """Section, name and bounds of every setting that is a number."""
    for section, field in Config.model_fields.items():
        for name, setting in getattr(field.annotation, "model_fields", {}).items():
            if setting.annotation in (int, float):
                bounds = {type(bound).__name__: bound for bound in setting.metadata}
                yield section, name, bounds


def test_every_number_is_bounded_on_both_sides():
    unbounded = [f"{section}.{name}" for section, name, found in _numbers() if "Le" not in found or len(found) < 2]
    assert unbounded == []
    assert len(list(_numbers())) > 50


def test_a_home_works_with_the_largest_of_every_number(home):
    largest: dict[str, dict[str, object]] = {"inference": {"engine": "instant"}}
    for section, name, bounds in _numbers():
        largest.setdefault(section, {})[name] = bounds["Le"].le
    settings = config.parse(largest)
    engine_spec(home, settings)
    provider_settings(settings, "a" * 64, HouseholdFile(home.folder))
    RelayServer(limits=relay_limits(settings.relay))


@pytest.mark.parametrize("option", ["--max-mb", "--writes-per-minute"])
def test_so_is_an_option_in_the_place_of_a_setting(option):
    found = CliRunner().invoke(app, ["relay", option, str(10**18)])
    # In a box, whose lines may break anywhere.
    assert (found.exit_code, "less than or equal to" in " ".join(re.findall(r"\w+", found.output))) == (2, True)


def test_too_few_and_too_many_relays_and_a_section_that_is_none_are_told_of_in_plain_words():
    for raw, said in (
        ({"relays": []}, "relays: it has 0 entries: the minimum is 1"),
        ({"relays": [f"ws://h{n}" for n in range(21)]}, "relays: it has 21 entries: the maximum is 20"),
        ({"provider": 7}, r"provider: 7 is not a section; its settings go below \[provider\]"),
        ({"relay": 7}, "relay: 7 is not a section; did you mean `relays`\\?"),
    ):
        with pytest.raises(SetupError, match=f"{said}(?m:$)"):
            config.parse(raw)


def test_a_section_that_is_given_a_value_is_found_where_it_stands_and_not_where_toml_trips_over_it(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('network = "play"\nrelay = ["ws://a"]\n\n[provider]\nname = "x"\n[relay]\nport = 7447\n')
    with pytest.raises(SetupError, match="not valid TOML") as caught:
        config.load(file)
    assert caught.value.hint == "Correct line 2: `relay` is a section; did you mean `relays`?"
    file.write_text('[provider]\nrelay = ["ws://a"\n')
    with pytest.raises(SetupError, match="not valid TOML") as caught:
        config.load(file)
    assert caught.value.hint == "Correct that line and try again."


def test_variables_are_read_as_the_setting_wants_them(monkeypatch):
    monkeypatch.setenv("PYLON_RELAYS", '["ws://one", "ws://two"]')
    monkeypatch.setenv("PYLON_PROVIDER__SERVE_OPEN", "false")
    monkeypatch.setenv("PYLON_PROVIDER__NAME", '["no list"]')
    monkeypatch.setenv("PYLON_CUSTOMER__PATIENCE_S", "0.5")
    read = config.parse({"provider": {"about": "kept", "serve_open": True}})
    assert read.relays == ["ws://one", "ws://two"]
    assert (read.provider.serve_open, read.provider.name, read.provider.about) == (False, '["no list"]', "kept")
    assert read.customer.patience_s == 0.5


def test_a_variable_that_is_no_setting_is_left_alone(monkeypatch):
    monkeypatch.setenv("PYLON_PASSPHRASE", "secret")
    assert config.parse({}) == Config()


def test_without_a_home_the_next_step_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PYLON_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(SetupError) as caught:
        open_home()
    assert "pylon init" in caught.value.hint


def test_a_key_is_written_for_its_owner_alone_and_read_back(home):
    secret = identity.create(home.identity_file)
    assert stat.S_IMODE(home.identity_file.stat().st_mode) == 0o600
    assert identity.load(home.identity_file) == secret


def test_a_key_is_never_written_over(home):
    identity.create(home.identity_file)
    with pytest.raises(SetupError, match="already"):
        identity.create(home.identity_file)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_key_that_a_full_disk_refuses_leaves_no_file_in_the_way_of_the_next(home, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space") as caught:
        patch.delattr("fcntl.F_FULLFSYNC", raising=False)
        patch.setattr("os.fsync", full)
        identity.create(home.identity_file)
    assert caught.value.filename == str(home.identity_file)
    assert identity.create(home.identity_file) == identity.load(home.identity_file)


def test_settings_that_a_full_disk_refuses_leave_nothing_behind_and_those_that_are_written_are_the_owners_alone(
    tmp_path, monkeypatch
):
    home = Home(tmp_path / "home")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.delattr("fcntl.F_FULLFSYNC", raising=False)
        patch.setattr("os.fsync", full)
        home.create()
    assert not list(tmp_path.iterdir())
    home.create()
    assert stat.S_IMODE(home.config_file.stat().st_mode) == 0o600


def test_an_empty_key_file_is_named_with_what_to_do(home):
    home.identity_file.touch(mode=0o600)
    for use in (identity.load, identity.create, identity.is_protected):
        with pytest.raises(SetupError, match="is empty") as caught:
            use(home.identity_file)
        assert str(home.identity_file) in str(caught.value) and "delete the empty file" in caught.value.hint


def test_a_key_file_that_holds_something_else_is_named(home):
    home.identity_file.touch(mode=0o600)
    home.identity_file.write_text("not-a-key")
    with pytest.raises(SetupError, match="is not a usable key") as caught:
        identity.load(home.identity_file)
    assert str(home.identity_file) in str(caught.value) and "not-a-key" not in str(caught.value)


def test_no_new_key_is_made_for_the_books_of_one_that_is_gone(home):
    secret = identity.create(home.identity_file)
    home.database.write_bytes(b"books")
    home.identity_file.unlink()
    with pytest.raises(SetupError, match="holds the books") as caught:
        identity.create(home.identity_file)
    assert not home.identity_file.exists() and "identity restore" in caught.value.hint
    identity.write(home.identity_file, secret)


def test_a_key_that_others_may_read_is_refused(home):
    identity.create(home.identity_file)
    home.identity_file.chmod(0o644)
    with pytest.raises(SetupError, match="0644"):
        identity.load(home.identity_file)


def test_a_protected_key_needs_its_passphrase_and_never_shows_itself(tmp_path, monkeypatch):
    monkeypatch.delenv("PYLON_PASSPHRASE", raising=False)
    secret = SecretKey.generate()
    identity.write(tmp_path / "backup", secret, passphrase="correct horse")
    text = (tmp_path / "backup").read_text()
    assert nip19.nsec(secret) not in text and secret.secret_bytes.hex() not in text
    with pytest.raises(SetupError, match="passphrase"):
        identity.load(tmp_path / "backup")
    with pytest.raises(SetupError) as caught:
        identity.load(tmp_path / "backup", "wrong horse")
    assert text.strip() not in str(caught.value)
    assert identity.load(tmp_path / "backup", "correct horse") == secret


@pytest.mark.parametrize("text", ["", "nsec1qqqq", "npub1" + "q" * 58, "00" * 32, "not a key at all"])
def test_what_is_no_key_is_refused_without_being_repeated(text):
    with pytest.raises(SetupError) as caught:
        identity.parse(text)
    assert len(text) < 10 or text not in str(caught.value)


def test_one_process_holds_the_lock_and_its_end_frees_it(home):
    program = (
        "import sys, pathlib\n"
        "from pylon.node.home import Home, HomeLock\n"
        "HomeLock(Home(pathlib.Path(sys.argv[1]))).acquire()\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(HomeBusyError):
        HomeLock(home).acquire()
    holder.kill()
    holder.wait()
    lock = HomeLock(home)
    lock.acquire()
    lock.release()


def test_a_home_whose_path_is_too_long_for_a_socket_gets_a_short_one(tmp_path):
    home = Home(tmp_path / ("long" * 40))
    assert len(os.fsencode(home.socket)) <= 103
    assert home.socket != Home(tmp_path / ("longer" * 40)).socket


def test_that_one_is_the_same_whatever_temporary_folder_a_caller_has(tmp_path, monkeypatch):
    home = Home(tmp_path / ("long" * 40))
    here = home.socket
    (tmp_path / ("long" * 20)).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 20)))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert home.socket == here and len(os.fsencode(home.socket)) <= 103


@pytest.mark.parametrize("what", ["a file", "a link to a folder", "a link to nothing"])
def test_what_somebody_else_put_there_is_named_and_not_followed(tmp_path, monkeypatch, what):
    here, ours = tmp_path / "pylon-0", tmp_path / "ours"
    ours.mkdir(mode=0o755)
    monkeypatch.setattr("pylon.node.home.short_folder", lambda: here)
    if what == "a file":
        here.touch()
    else:
        here.symlink_to(ours if what == "a link to a folder" else tmp_path / "nothing")
    with pytest.raises(SetupError, match="does not belong to you, or is not a folder"):
        private_folder(here)
    assert ours.stat().st_mode & 0o777 == 0o755


async def test_a_playbank_whose_home_has_a_long_path_is_asked_all_the_same(tmp_path):
    folder = tmp_path / ("long" * 40)
    async with RelayServer() as relay, BankHost(folder, relay.url):
        given = await result_of(RemoteNode(bank_socket(folder)), "bank-faucet", {"account": "me", "sats": 5})
    assert given == {"account": "me", "balance_msat": 5_000}


async def test_a_relay_that_is_full_begins_with_a_playbank_all_the_same(tmp_path):
    async with RelayServer(limits=RelayLimits(store_bytes=1)) as relay, BankHost(tmp_path / "home", relay.url):
        given = await result_of(
            RemoteNode(bank_socket(tmp_path / "home")), "bank-faucet", {"account": "me", "sats": 5}
        )
    assert given["balance_msat"] == 5_000
