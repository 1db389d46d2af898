import itertools

from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.batching.answer import Answer
from pylon.inference.stops import find_stop


class Pieces:
    """A detokenizer whose tokens are pieces of UTF-8; text is what is whole so far."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.data = b""
        self.errors = "ignore"

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", self.errors)

    def add_token(self, token: int) -> None:
        self.data += self.pieces[token]

    def finalize(self) -> None:
        self.errors = "replace"


def cut_up(text: str, cuts: list[int]) -> list[bytes]:
    data = text.encode()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def run(pieces: list[bytes], stops: tuple[str, ...]) -> tuple[Answer, bool, list[str]]:
    answer = Answer(Pieces(pieces), stops)
    shown = []
    for token in range(len(pieces)):
        if answer.add(token):
            return answer, True, shown
        shown.append(answer.shown)
    return answer, answer.end(), shown


def test_stop_string_split_over_two_tokens_ends_the_answer() -> None:
    answer, stopped, shown = run([b"one", b" two E", b"ND three"], ("END",))
    assert stopped
    assert answer.text == "one two "
    assert shown == ["one", "one two "]


def test_a_character_split_over_two_tokens_comes_whole() -> None:
    answer, _, shown = run([b"caf", b"\xc3", b"\xa9"], ())
    assert answer.text == "café"
    assert shown == ["caf", "caf", "café"]


def test_bytes_that_never_become_a_character_are_not_lost_silently() -> None:
    answer, stopped, _ = run([b"caf", b"\xc3"], ())
    assert answer.text == "caf�"
    assert not stopped


@given(
    st.text("aé\n𝄞", max_size=20),
    st.lists(st.text("aé\n𝄞", min_size=1, max_size=3), max_size=2),
    st.lists(st.integers(0, 100), max_size=10),
)
def test_an_answer_is_the_text_before_the_first_stop_however_tokens_cut_it(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    answer, stopped, shown = run(cut_up(text, cuts), tuple(stops))
    # Whatever follows the token that completed a stop string was never looked at.
    seen = text if not stopped else answer._text
    assert answer.text == seen[: find_stop(seen, stops)]
    assert stopped == (find_stop(text, stops) is not None)
    assert all(answer.text.startswith(part) for part in shown)
