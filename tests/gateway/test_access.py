import pytest

from pylon.errors import SetupError
from pylon.gateway.access import AccessRules, RequestHead
from pylon.gateway.keys import CODE_S, SESSION_S, Sessions, load_or_create
from tests.manual_clock import ManualClock

TOKEN = "pylon-secret-token-1234"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def refused(path="/v1/models", *, method="GET", host="127.0.0.1:7448", rules=None, sessions=(), **headers):
    rules = rules or AccessRules(TOKEN, frozenset(), loopback=True)
    return rules.refusal(RequestHead(method, path, {"host": host, **headers}), sessions)


def code(problem):
    return None if problem is None else problem.code


@pytest.mark.parametrize("host", ["127.0.0.1:7448", "localhost", "LOCALHOST:1", "[::1]:7448", "127.9.9.9"])
def test_this_machine_s_names_are_ours(host):
    assert refused(host=host, **BEARER) is None


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:7448", "192.168.1.5", "localhost.evil.example", "[", "a@localhost.x"]
)
def test_another_name_is_refused_before_the_token_is_looked_at(host):
    assert code(refused(host=host, **BEARER)) == "wrong_host"
    assert code(refused("/health", host=host)) == "wrong_host"


def test_open_to_other_machines_it_has_their_addresses_and_the_names_it_was_given():
    rules = AccessRules(TOKEN, frozenset({"node.lan"}), loopback=False)
    assert refused(rules=rules, host="192.168.1.5:7448", **BEARER) is None
    assert refused(rules=rules, host="Node.lan", **BEARER) is None
    assert code(refused(rules=rules, host="other.lan", **BEARER)) == "wrong_host"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", ""])
def test_a_page_of_another_site_is_refused_with_a_token_too(origin):
    assert code(refused(origin=origin, **BEARER)) == "wrong_origin"
    assert code(refused(origin=origin, rules=AccessRules(None, frozenset(), loopback=True))) == "wrong_origin"


def test_our_own_page_may_call():
    assert refused(origin="http://127.0.0.1:7448", **BEARER) is None


@pytest.mark.parametrize("said", [None, "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"])
def test_without_the_token_nothing_is_told(said):
    headers = {} if said is None else {"authorization": said}
    assert code(refused(**headers)) == "invalid_api_key"
    assert code(refused("/v1/chat/completions", method="POST", **headers)) == "invalid_api_key"
    assert code(refused("/metrics", **headers)) == "invalid_api_key"
    for method in ("GET", "HEAD"):
        assert all(refused(path, method=method, **headers) is None for path in ("/health", "/", "/runs"))
    assert code(refused("/health", method="POST", **headers)) == "invalid_api_key"


def test_without_a_token_everybody_here_may_come_in():
    assert refused(rules=AccessRules(None, frozenset(), loopback=True)) is None


def test_a_session_opens_what_is_looked_at_and_spends_nothing():
    shown = {"authorization": "Bearer s1"}
    for method in ("GET", "HEAD"):
        assert refused("/api/now", method=method, sessions={"s1"}, **shown) is None
    assert code(refused("/api/now", sessions={"s2"}, **shown)) == "invalid_api_key"
    assert code(refused("/v1/chat/completions", method="POST", sessions={"s1"}, **shown)) == "invalid_api_key"


def test_nothing_that_a_browser_sends_by_itself_opens_anything():
    for cookie in ("pylon_session_7448=s1", f"pylon_session={TOKEN}", "s1"):
        assert code(refused("/api/now", sessions={"s1"}, cookie=cookie)) == "invalid_api_key"


def test_whoever_lacks_the_token_is_told_where_it_stands():
    told = AccessRules(TOKEN, frozenset(), loopback=True, token_file="~/.pylon/play/gateway-token")
    assert "~/.pylon/play/gateway-token" in str(refused(rules=told))
    # Where other machines come in it is not said how this one's folders are called.
    assert "gateway-token" in str(refused())


def test_a_code_is_good_once_and_the_token_always():
    sessions = Sessions(TOKEN, ManualClock())
    printed = sessions.code
    first = sessions.open(printed)
    assert first in sessions and sessions.open(printed) is None
    assert sessions.open("") is None
    assert sessions.open(TOKEN) not in (None, first) and sessions.open(TOKEN) is not None


def test_a_code_that_nobody_used_is_not_good_for_long():
    clock = ManualClock()
    sessions = Sessions(TOKEN, clock)
    clock.advance(CODE_S)
    assert sessions.open(sessions.code) is None and sessions.open(TOKEN) is not None
    # Without a token as well.
    alone = Sessions(None, clock)
    clock.advance(CODE_S - 1)
    assert alone.open(alone.code) is not None


def test_a_session_ends_after_its_time_whoever_has_it():
    clock = ManualClock()
    sessions = Sessions(TOKEN, clock)
    first = sessions.open(TOKEN)
    clock.advance(SESSION_S - 1)
    second = sessions.open(TOKEN)
    assert first in sessions and second in sessions
    clock.advance(1)
    assert first not in sessions and second in sessions


def test_sessions_are_bounded():
    sessions = Sessions(TOKEN, ManualClock())
    opened = [sessions.open(TOKEN) for _ in range(100)]
    assert [one in sessions for one in opened] == [False] * 36 + [True] * 64


def test_a_token_is_made_once_and_is_its_owner_s_alone(tmp_path):
    path = tmp_path / "token"
    token = load_or_create(path)
    assert load_or_create(path) == token and len(token) > 40
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(SetupError):
        load_or_create(path)
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(SetupError):
        load_or_create(path)
