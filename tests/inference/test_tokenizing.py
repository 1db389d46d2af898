"""A text is cut into the same tokens whether or not its prefix was cut before."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from pylon.inference.mlx.tokenizing import CachingTokenizer
from pylon.inference.models import needle
from pylon.inference.models.weights import PACKAGED

HEAD = "<|im_start|>user\n" + "Say in one line what the text is about; name people, places and numbers. " * 8


class Counting:
    """The packaged model's tokenizer, and how many characters it was given."""

    def __init__(self) -> None:
        self.real = Tokenizer.from_file(str(PACKAGED / needle.MODEL_ID / "tokenizer.json"))
        self.normalizer, self.pre_tokenizer = self.real.normalizer, self.real.pre_tokenizer
        self.chars = 0

    def encode(self, text: str, *, add_special_tokens: bool) -> object:
        self.chars += len(text)
        return self.real.encode(text, add_special_tokens=add_special_tokens)

    def encode_batch_fast(self, texts: list[str], *, add_special_tokens: bool) -> list[object]:
        self.chars += sum(map(len, texts))
        return self.real.encode_batch_fast(texts, add_special_tokens=add_special_tokens)

    def whole(self, text: str) -> list[int]:
        return self.real.encode(text, add_special_tokens=False).ids


TOKENIZER = Counting()
pieces = st.text(st.sampled_from("ab Z\n\t0.'’é漢<|>") | st.characters(codec="utf-8"), max_size=60)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([HEAD, HEAD[:400], HEAD + HEAD, ""]), pieces), min_size=1, max_size=6))
def test_texts_are_cut_as_they_are_without_any_before(texts: list[tuple[str, str]]) -> None:
    cached = CachingTokenizer(TOKENIZER)  # type: ignore[arg-type]
    for prefix, rest in texts:
        assert cached.tokens_of(prefix + rest, "a") == TOKENIZER.whole(prefix + rest)


def cut_again(cached: CachingTokenizer, customers: list[str]) -> int:
    """Characters cut for the last of texts that share a prefix."""
    for number, customer in enumerate(customers):
        before = TOKENIZER.chars
        text = f"{HEAD} The harbour was quiet on day {number}."
        assert cached.tokens_of(text, customer) == TOKENIZER.whole(text)
    return TOKENIZER.chars - before


def test_a_shared_head_is_cut_once() -> None:
    assert cut_again(CachingTokenizer(TOKENIZER), ["a"] * 3) < len(HEAD) / 2  # type: ignore[arg-type]


def test_no_customer_gains_by_what_another_asked() -> None:
    assert cut_again(CachingTokenizer(TOKENIZER), ["a", "a", "b"]) >= len(HEAD)  # type: ignore[arg-type]


def test_a_text_with_a_word_begun_at_the_end_of_a_head_is_cut_as_a_whole() -> None:
    about = f"{HEAD}In short: generic"
    cached = CachingTokenizer(TOKENIZER)  # type: ignore[arg-type]
    # Prefixes end well before their texts part.
    for number in ("one", "two"):
        cached.tokens_of(f"{about} {'and ' * 16}{number}", "a")
    assert cached._known["a"].prefix == about
    assert TOKENIZER.whole(about + "s") != [*TOKENIZER.whole(about), *TOKENIZER.whole("s")]
    assert cached.tokens_of(about + "s", "a") == TOKENIZER.whole(about + "s")


def test_no_head_ends_within_what_is_cut_as_one_word() -> None:
    vocabulary = {piece: number for number, piece in enumerate((" ", "a", "b", "c", "\n", " c", "b c"))}
    lines = Tokenizer(models.BPE(vocabulary, [(" ", "c"), ("b", " c")]))
    lines.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    words = "b " * 200
    for end in range(256, 400, 2):
        cached = CachingTokenizer(lines)
        for text in (words + "a", words + "b", words[:end] + "c"):
            assert cached.tokens_of(text, "a") == lines.encode(text, add_special_tokens=False).ids


class Otherwise(Counting):
    """As a stand-in: a tokenizer for which a rest that begins with a space is not what it is within a text."""

    def encode_batch_fast(self, texts: list[str], *, add_special_tokens: bool) -> list[object]:
        return super().encode_batch_fast([text.lstrip(" ") for text in texts], add_special_tokens=add_special_tokens)


def test_a_tokenizer_for_which_a_rest_is_something_else_is_seen_through() -> None:
    cached = CachingTokenizer(Otherwise())  # type: ignore[arg-type]
    for number in range(4):
        text = f"{HEAD}The harbour was quiet on day {number}."
        assert cached.tokens_of(text, "a") == TOKENIZER.whole(text)


def test_heads_of_few_customers_are_kept() -> None:
    others = [f"{number}" for number in range(16)]
    assert cut_again(CachingTokenizer(TOKENIZER), ["a", "a", *others[1:], "a"]) < len(HEAD) / 2  # type: ignore[arg-type]
    assert cut_again(CachingTokenizer(TOKENIZER), ["a", "a", *others, "a"]) >= len(HEAD)  # type: ignore[arg-type]


def test_a_longer_head_takes_the_place_of_a_shorter_one() -> None:
    cached = CachingTokenizer(TOKENIZER)  # type: ignore[arg-type]
    for text in (HEAD + "one", HEAD + "two", HEAD * 3 + "one", HEAD * 3 + "two"):
        assert cached.tokens_of(text, "a") == TOKENIZER.whole(text)
    before = TOKENIZER.chars
    cached.tokens_of(HEAD * 3 + "three", "a")
    assert TOKENIZER.chars - before < len(HEAD)


@pytest.mark.parametrize("kind", ["normalizer", "looks behind", "in a part looks behind", "space in front", "other"])
def test_where_a_word_depends_on_what_is_before_it_texts_are_cut_whole(kind: str) -> None:
    tokenizer = Counting()
    if kind == "normalizer":
        tokenizer.normalizer = normalizers.NFKC()
    elif kind == "looks behind":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?<=a)b"), "isolated")
    elif kind == "in a part looks behind":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("(?<=a)b"), "isolated")])
    elif kind == "space in front":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    cached = CachingTokenizer(tokenizer)  # type: ignore[arg-type]
    for rest in ("one", "two", "three"):
        before = tokenizer.chars
        cached.tokens_of(HEAD + rest, "a")
        assert tokenizer.chars - before == len(HEAD + rest)
