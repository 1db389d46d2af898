"""What readings mean: values in, findings out."""

import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import PylonError
from pylon.jobs.heartbeat import Heartbeat
from pylon.node.doctor import machine, offer, relays, serving
from pylon.node.doctor.finding import Finding, Verdict, ok, warning, worst, wrong
from pylon.node.doctor.machine import DatabaseReading, HomeReading, MachineReading
from pylon.node.doctor.offer import OfferReading, WalletReading
from pylon.node.doctor.relays import Answers, RelayReading
from pylon.node.doctor.serving import CodeReading, ModelReading, ServiceReading
from pylon.nostr.client.nip11 import RelayInformation

MAC = MachineReading("Darwin", "arm64", False, "3.13.0", 10**11)
HOME = HomeReading("/h", same_machine=True)
OPEN = RelayReading("wss://relay.example", information=RelayInformation())
NO_WALLET = WalletReading(connected=False)
RATES = {"base_msat": 100, "in_msat_per_1k": 10, "out_msat_per_1k": 50}
FREE_TERMS, PAID_TERMS = {"pricing": "free", **RATES}, {"pricing": "paid", **RATES}
FREE = OfferReading(FREE_TERMS, False, False, False)


BY_SYSTEMD = ServiceReading("systemd", install="pylon service install")
NO_MANAGER = ServiceReading()


def rule(name, ends, *, holds=True, yielding=True):
    return {"name": name, "holds": holds, "yielding": yielding, "ends": ends}


BATTERY = rule("battery", "mains power")
HEAT = rule("heat", "a minute below serious heat", yielding=False)


def status(
    *,
    state="ready",
    failure="",
    hint="",
    reason="",
    restarts=0,
    loaded=True,
    paused="",
    draining=False,
    model="qwen",
    provider=True,
    rules=(),
):
    known = {"id": model} if loaded else None
    engine = {
        "state": state,
        "model": known,
        "reason": reason,
        "restarts": restarts,
        "failure": failure,
        "hint": hint,
    }
    serving_side = {
        "paused": paused,
        "draining": draining,
        "running": 1,
        "queued": 2,
        "jobs": {"settled": 5, "failed": 1},
        "engine": engine,
    }
    owner = {"rules": list(rules)} if provider else None
    return {"pid": 7, "model": model, "provider": serving_side if provider else None, "owner": owner}


def verdicts(*findings: Finding) -> list[tuple[str, bool]]:
    return [(finding.verdict.value, finding.no_jobs) for finding in findings]


def test_the_worst_of_all_counts():
    good, bad, ugly = ok("a", ""), warning("b", "", ""), wrong("c", "", "")
    assert worst([]) is worst([good]) is Verdict.OK
    assert worst([bad, good]) is Verdict.WARNING
    assert worst([good, ugly, bad]) is Verdict.WRONG


def test_rosetta_is_told_apart_from_an_intel_mac():
    intel = replace(MAC, processor="x86_64")
    assert machine.judge_python(MAC, "mlx").verdict is Verdict.OK
    assert "Rosetta" in machine.judge_python(replace(intel, translated=True), "mlx").said
    assert "needs Apple Silicon" in machine.judge_python(intel, "mlx").said
    assert machine.judge_python(intel, "llama").verdict is Verdict.OK
    assert machine.judge_python(replace(intel, system="Linux"), "mlx").verdict is Verdict.OK


def test_a_disk_that_is_nearly_full_is_wrong_before_it_is_full():
    found = [machine.judge_disk(replace(MAC, disk_free=free)) for free in (10**11, 10**9, 10**8)]
    assert verdicts(*found) == [("ok", False), ("warning", False), ("wrong", True)]


def test_a_disk_that_is_mounted_read_only_is_not_told_as_a_full_one():
    found = machine.judge_disk(replace(MAC, read_only=True))
    assert verdicts(found) == [("wrong", True)]
    assert "read-only" in found.said and "space" not in found.todo
    paused = serving.judge_node(status(paused="disk"), NO_MANAGER, mend="Have it mounted")
    assert paused.todo == "Have it mounted: the node tries again every few seconds."


def test_a_database_that_cannot_be_begun_with_keeps_jobs_away_and_says_what_its_file_says():
    found = machine.judge_database(
        DatabaseReading("/h/play/pylon.db", fault="the database is damaged", hint="Restore it.")
    )
    assert verdicts(found) == [("wrong", True)]
    assert (found.said, found.todo) == ("the database is damaged", "Restore it.")


def test_a_database_that_there_was_no_time_to_read_whole_is_not_called_whole():
    whole = machine.judge_database(DatabaseReading("/h/play/pylon.db", size=5_000_000))
    part = machine.judge_database(DatabaseReading("/h/play/pylon.db", size=5_000_000, whole=False))
    none = machine.judge_database(DatabaseReading("/h/play/pylon.db"))
    assert {found.verdict for found in (whole, part, none)} == {Verdict.OK}
    assert whole.said == "5.0 MB, no damage" and "time" in part.said and "none yet" in none.said


def test_a_backup_that_no_node_has_begun_with_is_told_as_one_with_its_date():
    found = machine.judge_database(DatabaseReading("/h/play/pylon.db", size=5_000_000, copied_at=1_000_000_000.0))
    assert verdicts(found) == [("warning", False)]
    assert "backup of 2001-09-" in found.said and "docs/backup.md" in found.todo


def test_a_home_that_others_may_read_is_wrong_and_the_cure_is_named():
    found = machine.judge_permissions(replace(HOME, open_to_others=("/h/play/identity",)))
    assert (found.verdict, found.todo) == (Verdict.WRONG, "chmod go-rwx /h/play/identity")
    assert machine.judge_permissions(HOME).verdict is Verdict.OK


def test_a_command_that_is_named_holds_paths_with_blanks_as_a_shell_takes_them():
    home = replace(HOME, path="/my home", folder="/my home/play", mark="/my home/play/machine", same_machine=False)
    loose = machine.judge_permissions(replace(home, open_to_others=("/my home", "/my home/play")))
    assert shlex.split(loose.todo) == ["chmod", "go-rwx", "/my home", "/my home/play"]
    foreign = machine.judge_permissions(replace(home, owner="ann", reader="ann", foreign=("/my home/play",)))
    assert shlex.split(foreign.todo.split(": ")[-1]) == ["sudo", "chown", "-R", "ann", "/my home"]
    copied = machine.judge_binding(home)
    assert copied is not None
    commands = [shlex.split(each) for each in re.findall(r"`([^`]*)`", copied.todo)]
    assert commands[0] == ["rm", "/my home/play/machine"]
    assert commands[2] == ["mv", "/my home/play", "/my home/play.copied"]


def test_a_home_that_is_anothers_is_told_apart_from_one_in_which_root_was():
    """Root may look after it; whoever is neither cannot use it."""
    ann = replace(HOME, owner="ann", reader="root", root=True)
    by_root = machine.judge_permissions(ann)
    assert verdicts(by_root) == [("warning", False)]
    assert shlex.split(by_root.todo) == ["sudo", "-u", "ann", "env", "PYLON_HOME=/h", "pylon", "doctor"]
    by_bob = machine.judge_permissions(replace(ann, reader="bob", root=False))
    assert verdicts(by_bob) == [("wrong", True)] and "ann" in by_bob.said and "chown" not in by_bob.todo
    of_both = machine.judge_permissions(replace(ann, foreign=("/h/play",)))
    assert verdicts(of_both) == [("wrong", True)] and of_both.todo.endswith(": chown -R ann /h")
    assert verdicts(machine.judge_permissions(replace(ann, reader="ann", root=False))) == [("ok", False)]


def test_a_locked_key_is_a_warning_and_none_at_all_is_wrong():
    assert machine.judge_key(replace(HOME, locked=True, fault="x"), running=True).verdict is Verdict.WARNING
    assert machine.judge_key(replace(HOME, fault="no key", hint="init"), running=False).todo == "init"
    assert machine.judge_key(HOME, running=False).verdict is Verdict.OK


def test_a_copied_home_is_warned_of_and_an_unknown_one_is_not():
    found = machine.judge_binding(replace(HOME, same_machine=False))
    assert found is not None and found.verdict is Verdict.WARNING
    assert machine.judge_binding(replace(HOME, same_machine=None)) is None


@pytest.mark.parametrize(
    ("read", "verdict", "said"),
    [
        (OPEN, Verdict.OK, "open"),
        (replace(OPEN, information=None), Verdict.OK, "publishes no limits"),
        (replace(OPEN, error="refused"), Verdict.WRONG, "refused"),
        (replace(OPEN, refusal="blocked: not you"), Verdict.WRONG, "not you"),
        (replace(OPEN, information=RelayInformation(payment_required=True)), Verdict.WARNING, "payment"),
        (replace(OPEN, information=RelayInformation(min_pow_difficulty=16)), Verdict.WARNING, "proof of work"),
        (replace(OPEN, information=RelayInformation(auth_required=True)), Verdict.WARNING, "locked"),
        (replace(OPEN, information=RelayInformation(restricted_writes=True)), Verdict.WARNING, "selected keys"),
        (replace(OPEN, information=RelayInformation(restricted_writes=True), announced=True), Verdict.OK, "open"),
        (replace(OPEN, information=RelayInformation(max_message_length=16_384)), Verdict.WARNING, "16,374 bytes"),
    ],
)
def test_what_a_relay_says_of_itself_is_weighed(read, verdict, said):
    found = relays.judge_relay(read, system="Linux", key=False)
    assert found.verdict is verdict
    assert said in found.said


def test_errno_65_on_a_mac_is_the_local_network_permission():
    read = RelayReading("ws://192.168.1.5:7447", error="No route to host", errno=65, near=True)
    assert "Local Network" in relays.judge_relay(read, system="Darwin", key=True).todo
    assert "Local Network" not in relays.judge_relay(read, system="Linux", key=True).todo
    assert "Local Network" not in relays.judge_relay(replace(read, near=False), system="Darwin", key=True).todo


def test_what_answers_in_a_relays_place_is_named_with_the_cure_for_that():
    taken = RelayReading("ws://127.0.0.1:7447", "no HTTP", answers=Answers.STRANGER, here=True)
    found = relays.judge_relay(taken, system="Linux", key=True)
    assert "does not answer like a relay" in found.said and "sport = :7447" in found.todo and "[relay]" in found.todo
    assert "pylon relay" not in found.todo and "lsof" in relays.judge_relay(taken, system="Darwin", key=True).todo
    assert "[relay]" not in relays.judge_relay(replace(taken, here=False), system="Linux", key=True).todo
    assert "pylon relay" not in relays.judge_reach([taken], household=False).todo
    free = replace(taken, answers=Answers.NOTHING)
    assert "pylon relay" in relays.judge_relay(free, system="Linux", key=True).todo
    assert "pylon relay" in relays.judge_reach([free], household=False).todo


@pytest.mark.parametrize(
    ("elsewhere", "secured"), [("wss://r.example:1", "with TLS"), ("ws://r.example:1", "without TLS")]
)
def test_a_relay_of_the_other_scheme_is_named_as_it_is_to_be_written(elsewhere, secured):
    read = RelayReading("ws://r.example:1", "bad handshake", answers=Answers.OTHER_SCHEME, elsewhere=elsewhere)
    found = relays.judge_relay(read, system="Linux", key=True)
    assert secured in found.said and found.todo == f"Change the address to {elsewhere}"


def test_a_certificate_that_is_not_trusted_is_told_as_that():
    read = RelayReading("wss://r.example", "self-signed certificate", answers=Answers.UNTRUSTED)
    assert "certificate is not trusted here: self-signed" in relays.judge_relay(read, system="Linux", key=True).said


def test_relays_of_this_machine_alone_bring_no_strangers_and_its_own_jobs_all_the_same():
    here = replace(OPEN, here=True)
    found = relays.judge_reach([here], household=False)
    assert (*verdicts(found), found.only_own) == (("warning", False), True)
    assert verdicts(relays.judge_reach([here], household=True)) == [("ok", False)]
    assert verdicts(relays.judge_reach([here, OPEN], household=False)) == [("ok", False)]
    assert verdicts(relays.judge_reach([replace(OPEN, error="x")], household=False)) == [("wrong", True)]


@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [(0.4, "ok"), (-4.9, "ok"), (30, "warning"), (-30, "warning"), (120, "wrong"), (-3600, "wrong")],
)
def test_a_clock_is_judged_by_how_far_it_is_off(ahead, verdict):
    found = relays.judge_clock([replace(OPEN, ahead_s=ahead), OPEN])
    assert found.verdict == verdict
    assert verdict == "ok" or ("behind" if ahead < 0 else "ahead") in found.said


@given(st.lists(st.floats(-3, 3), min_size=2), st.floats(-1e9, 1e9))
def test_one_relay_whose_clock_is_off_does_not_put_ours_in_doubt(good, bad):
    reads = [replace(OPEN, ahead_s=ahead) for ahead in (*good, bad)]
    assert relays.judge_clock(reads).verdict is Verdict.OK


def test_a_node_that_no_relay_shows_is_not_there():
    beat = Heartbeat("d", slots=4, slots_free=3, expires_at=1_000)
    shown = replace(OPEN, announced=True, heartbeat=beat)
    assert verdicts(relays.judge_presence([shown], 900)) == [("ok", False)]
    assert verdicts(relays.judge_presence([shown], 1_001)) == [("wrong", True)]
    assert verdicts(relays.judge_presence([replace(shown, announced=False)], 900)) == [("wrong", True)]
    assert relays.judge_presence([replace(shown, error="x")], 900) is None


@pytest.mark.parametrize(
    ("said", "verdict", "words"),
    [
        (None, ("wrong", True), "not running"),
        (status(provider=False), ("wrong", True), "does not serve"),
        (status(paused="owner"), ("wrong", True), "paused (owner)"),
        (status(draining=True), ("wrong", True), "draining"),
        (status(state="failed"), ("wrong", True), "refuses every job"),
        (status(), ("ok", False), "5 served"),
    ],
)
def test_why_a_node_takes_no_jobs(said, verdict, words):
    found = serving.judge_node(said, BY_SYSTEMD)
    assert verdicts(found) == [verdict]
    assert words in found.said


def test_a_pause_that_outlives_a_node_is_told_with_what_ends_it():
    found = serving.judge_node(None, BY_SYSTEMD, "owner")
    assert "start paused (owner)" in found.said and "then `pylon resume`" in found.todo
    assert "resume" not in serving.judge_node(None, BY_SYSTEMD).todo


def test_a_service_is_proposed_where_there_is_one_to_be_had():
    root = replace(BY_SYSTEMD, install="pylon service install --system")
    assert serving.judge_node(None, NO_MANAGER).todo == "`pylon start`."
    assert serving.judge_node(None, BY_SYSTEMD).todo == "`pylon start`, or `pylon service install`."
    assert "install --system`" in serving.judge_node(None, root).todo
    assert "install --system`" in serving.judge_service(root).said
    assert "service install" not in serving.judge_service(NO_MANAGER).said
    assert serving.judge_node(None, replace(BY_SYSTEMD, installed=True)).todo == "`pylon service restart`."


def test_a_relay_that_is_open_to_the_doctor_and_not_to_the_node_that_runs_is_wrong():
    refused = "the relay refused our key: invalid: created_at is more than 600 s away"
    there = {"url": OPEN.url, "state": "open", "error": ""}
    elsewhere = {"url": "wss://other.example", "state": "open", "error": refused}

    def judged(relay, *reads):
        reads = relays.beside_own(reads or [OPEN], {"relays": [relay, elsewhere]})
        each = [relays.judge_relay(read, system="Linux", key=True) for read in reads]
        return each[0], relays.judge_reach(reads, household=True)

    assert verdicts(*judged(there)) == [("ok", False), ("ok", False)]
    found, reach = judged({**there, "error": refused})
    assert refused in found.said and verdicts(found, reach) == [("wrong", False), ("wrong", True)]
    found, reach = judged({**there, "error": refused}, OPEN, replace(OPEN, url="wss://third.example"))
    assert verdicts(found, reach) == [("wrong", False), ("ok", False)]
    found, _ = judged({**there, "state": "connecting", "error": "no route"})
    assert "no route" in found.said and verdicts(found) == [("warning", False)]
    assert relays.beside_own([OPEN], None) == [OPEN]


def test_what_no_relay_shows_is_told_with_what_relays_said_of_it():
    why = "created_at is more than 900 s ahead"
    found = relays.judge_presence([OPEN], 900, why)
    assert why in found.said and "every half minute" in found.todo and verdicts(found) == [("wrong", True)]
    assert "()" not in relays.judge_presence([OPEN], 900).said


def test_room_on_the_disk_comes_before_a_start():
    assert serving.judge_node(None, NO_MANAGER, mend="Make room").todo == "Make room; then `pylon start`."
    full = serving.judge_node(status(paused="disk"), NO_MANAGER)
    assert full.said == "paused (disk)" and "Free some disk space" in full.todo and "resume" not in full.todo


def test_over_a_pause_by_hand_the_rules_that_hold_too_are_named_with_what_ends_them():
    idle = rule("in use", "3 min without input", holds=False)
    found = serving.judge_node(status(paused="owner", rules=[BATTERY, HEAT, idle]), NO_MANAGER)
    assert found.said == "paused (owner) by hand; these owner rules also pause it: battery, heat"
    assert found.todo == (
        "`pylon resume` ends the manual pause; mains power ends `battery`; a minute below serious heat ends `heat`;"
        " `pylon resume --for 2h` suspends all rules but heat for that time."
    )
    alone = serving.judge_node(status(paused="owner", rules=[idle]), NO_MANAGER)
    assert alone.said == "paused (owner) by hand" and alone.todo == "`pylon resume` ends the manual pause."


def test_a_pause_by_rules_is_told_with_what_ends_it_and_with_the_owners_word_where_that_counts():
    found = serving.judge_node(status(paused="battery", rules=[BATTERY]), NO_MANAGER)
    assert found.said == "paused (battery)"
    assert found.todo == "mains power ends `battery`; `pylon resume --for 2h` suspends all of it for that time."
    firm = serving.judge_node(status(paused="heat", rules=[HEAT]), NO_MANAGER)
    assert firm.todo == "a minute below serious heat ends `heat`."


def test_a_model_beyond_memory_gb_is_told_as_that():
    files = ModelReading("mlx", "qwen", weights=10**10, free=10**11, wished=9 * 10**9)
    found = serving.judge_model(files, None)
    assert "`memory_gb`" in found.said and "to more than 10, or to 0" in found.todo
    # What the machine has is too little as well, or is the less.
    assert "recommend" in serving.judge_model(replace(files, free=12 * 10**9), None).todo
    little = serving.judge_model(replace(files, free=10**10), None)
    assert "memory_gb" not in little.said + little.todo


def test_a_model_is_judged_by_the_node_or_by_its_size():
    files = ModelReading("mlx", "qwen", weights=10**10, free=10**11)
    assert verdicts(
        serving.judge_model(files, None),
        serving.judge_model(replace(files, free=10**10), None),
        serving.judge_model(replace(files, wished=10**9), None),
        serving.judge_model(replace(files, fault="not here"), None),
        serving.judge_model(files, status(state="failed", failure="boom")),
        serving.judge_model(files, status(state="loading")),
        serving.judge_model(replace(files, fault="not here"), status()),
    ) == [("ok", False)] + [("wrong", True)] * 4 + [("warning", True), ("ok", False)]
    found = serving.judge_model(files, status(state="failed", failure="It takes 24.0 GB.", hint="End what runs."))
    assert "It takes 24.0 GB." in found.said and found.todo == "End what runs."


def test_a_model_that_will_not_load_is_wrong_with_why_and_what_to_do():
    files = ModelReading("openai", "qwen")
    silent = "the server at http://127.0.0.1:8080/v1 does not answer (ConnectError)"
    said = status(state="loading", reason=silent, restarts=2, hint="Start it.", loaded=False)
    found = serving.judge_model(files, said)
    assert verdicts(found) == [("wrong", True)] and silent in found.said and found.todo == "Start it."
    died = status(state="loading", reason="ended with exit code 1", restarts=1, loaded=False)
    assert "logs/pylon.log" in serving.judge_model(files, died).todo
    # Long after it died once, it left memory, and a job has it loaded.
    unloaded = status(state="loading", reason="ended with exit code 0", restarts=1)
    assert verdicts(serving.judge_model(files, unloaded)) == [("warning", True)]


def test_a_servers_model_that_was_never_named_is_told_and_is_not_taken_for_the_packaged_one():
    unnamed = ModelReading("openai", "needle-1", unnamed=True)
    for said in (None, status(model="needle-1")):
        found = serving.judge_model(unnamed, said)
        assert verdicts(found) == [("warning", False)]
        assert "has no name" in found.said and "finds numbers" not in found.said and "Set `model`" in found.todo
    # llama.cpp's own server may well serve that model.
    assert verdicts(serving.judge_model(replace(unnamed, unnamed=False), None)) == [("ok", False)]


def test_a_port_that_another_took_is_a_warning_until_a_node_runs():
    found = [
        relays.judge_port(7447, taken=taken, running=run, system="Linux")
        for taken, run in ((True, False), (True, True), (False, False))
    ]
    assert verdicts(*found) == [("warning", False), ("ok", False), ("ok", False)]


def test_who_has_the_packaged_model_hears_what_it_cannot_do():
    assert serving.judge_model(ModelReading("mlx", "needle-1"), None).verdict is Verdict.WARNING
    assert serving.judge_model(ModelReading("mlx", "x"), status(model="needle-1")).verdict is Verdict.WARNING


def test_price_and_pricing_have_to_fit():
    wallet = WalletReading(connected=True, said="answers")
    paid = replace(FREE, terms=PAID_TERMS)
    assert verdicts(
        offer.judge_offer(FREE, NO_WALLET),
        offer.judge_offer(replace(FREE, price_changed=True), NO_WALLET),
        offer.judge_offer(paid, NO_WALLET),
        offer.judge_offer(paid, wallet),
        offer.judge_offer(replace(paid, terms={**dict.fromkeys(RATES, 0), "pricing": "paid"}), wallet),
        offer.judge_offer(replace(paid, live_not_allowed=True), wallet),
        offer.judge_offer(replace(paid, household=True), NO_WALLET),
    ) == [
        ("ok", False),
        ("warning", False),
        ("wrong", True),
        ("ok", False),
        ("warning", False),
        ("wrong", True),
        ("ok", False),
    ]


def test_a_node_that_runs_keeps_the_price_of_its_start_and_both_are_said():
    """The file alone said the opposite of what customers saw."""
    wallet = WalletReading(connected=True, said="answers")
    to_be_free = offer.judge_offer(replace(FREE, now=PAID_TERMS), wallet)
    assert verdicts(to_be_free) == [("warning", False)] and "pylon stop" in to_be_free.todo
    assert to_be_free.said == (
        "the node serves for 100 msat per job, 10 and 50 per 1,000 tokens in and out, but from its next start on"
        " for free"
    )
    dearer_if_paid = replace(FREE, terms=FREE_TERMS, now=FREE_TERMS | {"base_msat": 7})
    assert offer.judge_offer(dearer_if_paid, wallet) == offer.judge_offer(FREE, wallet)
    paid = replace(FREE, terms=PAID_TERMS, now=FREE_TERMS)
    assert offer.judge_offer(paid, wallet).said.startswith("the node serves for free, but from its next start on")
    lacking = offer.judge_offer(paid, NO_WALLET)
    assert verdicts(lacking) == [("wrong", False)] and "no wallet is connected" in lacking.said, "jobs come for now"
    same = replace(FREE, terms=PAID_TERMS, now=PAID_TERMS)
    assert verdicts(offer.judge_offer(same, wallet), offer.judge_offer(same, NO_WALLET)) == [
        ("ok", False),
        ("wrong", False),
    ]
    forbidden = replace(same, live_not_allowed=True)
    assert verdicts(offer.judge_offer(forbidden, wallet)) == [("wrong", True)]
    assert (paid.pricing, to_be_free.check, replace(paid, now=None).pricing) == ("free", "offer", "paid")


def test_a_wallet_that_was_connected_after_the_start_keeps_no_jobs_away():
    unused = WalletReading(connected=True, unused=True)
    found = offer.judge_wallet(unused, "free", 5_000)
    assert verdicts(found) == [("warning", False)] and "pylon start" in found.todo


def test_a_node_that_is_older_than_its_code_is_named_and_one_that_is_not_is_not():
    here = CodeReading("0.2.0", 5_000.0)
    old = {"version": "0.2.0", "uptime_s": 2_000.0}
    found = serving.judge_code(here, old, 6_000.0)
    assert found is not None and verdicts(found) == [("warning", False)] and "17 min ago" in found.said
    assert serving.judge_code(here, {**old, "uptime_s": 900.0}, 6_000.0) is None
    other = serving.judge_code(here, {"version": "0.1.0", "uptime_s": 900.0}, 6_000.0)
    assert other is not None and "0.1.0" in other.said and "0.2.0" in other.said


def test_a_node_that_failed_in_calls_is_named_with_what_it_was_and_where_it_stands():
    faults = {"count": 2, "last": "map: KeyError: 'x'", "log": "/h/logs/pylon.log"}
    found = serving.judge_calls({"faults": faults})
    assert found is not None and verdicts(found) == [("warning", False)]
    assert "2 calls" in found.said and "map: KeyError: 'x'" in found.said and "/h/logs/pylon.log" in found.todo
    assert serving.judge_calls({"faults": {**faults, "count": 0}}) is None
    assert serving.judge_calls({}) is None, "one that began with an older Pylon does not count them"


def test_a_node_that_cannot_say_how_it_does_is_not_taken_for_none():
    broken = PylonError("the node failed: KeyError: 'x'", hint="")
    found = serving.judge_node(None, NO_MANAGER, fault=broken)
    assert verdicts(found) == [("wrong", False)] and "KeyError" in found.said and "log" in found.todo


def test_a_wallet_that_does_not_answer_keeps_paid_jobs_away_only():
    silent = WalletReading(connected=True, fault="no answer")
    assert verdicts(offer.judge_wallet(silent, "free", 0)) == [("wrong", False)]
    assert verdicts(offer.judge_wallet(silent, "paid", 5_000)) == [("wrong", True)]
    assert verdicts(offer.judge_wallet(NO_WALLET, "free", 0)) == [("ok", False)]


def test_a_bid_that_no_wallet_pays_is_named():
    found = offer.judge_wallet(NO_WALLET, "free", 5_000)
    assert verdicts(found) == [("warning", False)]
    assert "5,000 msat" in found.said and "pylon wallet connect" in found.todo


@pytest.mark.parametrize(
    ("read", "verdict", "words"),
    [
        (NO_MANAGER, "ok", "neither launchd nor systemd"),
        (BY_SYSTEMD, "ok", "not installed"),
        (ServiceReading("launchd", True, 7, "running", "3"), "ok", "running"),
        (ServiceReading("systemd", True, None, "inactive (dead)", "0"), "warning", "inactive"),
        (
            ServiceReading("systemd", True, None, "activating (auto-restart)", "203", "log"),
            "wrong",
            "program is missing",
        ),
        (ServiceReading("launchd", True, None, "spawn scheduled", "3", "the log"), "wrong", "last exit: 3"),
        (ServiceReading(fault="taken"), "warning", "taken"),
    ],
)
def test_a_service_that_does_not_run_is_noticed(read, verdict, words):
    found = serving.judge_service(read)
    assert (found.verdict, words in found.said) == (verdict, True)
