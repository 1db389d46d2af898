from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.batching.prefixes import LEAST_TOKENS, Prefix, PrefixStore, common_length, worth_sharing

INSTRUCTION = list(range(100))


def prefix(customer: str, tokens: list[int], size: int = 1) -> Prefix[str]:
    return Prefix(customer, tokens, "state", size)


@given(st.lists(st.integers(0, 1), max_size=300), st.lists(st.integers(0, 1), max_size=300), st.integers(0, 200))
def test_the_common_length_is_that_of_a_plain_loop(one: list[int], other: list[int], shared: int) -> None:
    one, other = [7] * shared + one, [7] * shared + other
    plain = 0
    while plain < min(len(one), len(other)) and one[plain] == other[plain]:
        plain += 1
    assert common_length(one, other) == plain


def test_a_head_that_many_share_beats_a_longer_one_that_few_share() -> None:
    prompt = [*INSTRUCTION, 1, 2, 3, 4]
    others = [[*INSTRUCTION, 50 + n] for n in range(8)] + [[*INSTRUCTION, 1, 2, 3, 9]]
    assert worth_sharing(prompt, others) == len(INSTRUCTION)


def test_a_short_head_is_not_shared() -> None:
    assert worth_sharing(INSTRUCTION, [[*INSTRUCTION[: LEAST_TOKENS - 1], 900]] * 10) == 0


def test_equal_prompts_share_all_but_the_last_token() -> None:
    assert worth_sharing(INSTRUCTION, [INSTRUCTION]) == len(INSTRUCTION) - 1


def test_only_what_goes_beyond_a_head_that_is_shared_already_counts() -> None:
    longer = [*INSTRUCTION, *range(200, 240)]
    others = [[*INSTRUCTION, 1]] * 8 + [[*longer, 1]]
    assert worth_sharing([*longer, 9], others) == len(INSTRUCTION)
    assert worth_sharing([*longer, 9], others, read=len(INSTRUCTION)) == len(longer)
    assert worth_sharing([*longer, 9], others, read=len(longer)) == 0


def test_prefixes_of_one_customer_are_never_found_for_another() -> None:
    store: PrefixStore[str] = PrefixStore(1_000)
    store.put(prefix("alice", INSTRUCTION))
    assert store.find("alice", [*INSTRUCTION, 1]) is not None
    assert store.find("bob", [*INSTRUCTION, 1]) is None


def test_the_longest_fitting_prefix_is_found_and_leaves_a_token_to_compute() -> None:
    store: PrefixStore[str] = PrefixStore(1_000)
    store.put(prefix("", INSTRUCTION[:50]))
    longer = prefix("", INSTRUCTION)
    store.put(longer)
    store.put(prefix("", [*INSTRUCTION, 5]))
    assert store.find("", [*INSTRUCTION, 4]) is longer
    found = store.find("", INSTRUCTION)
    assert found is not None
    assert len(found.tokens) == 50


def test_the_prefix_used_longest_ago_goes_first() -> None:
    store: PrefixStore[str] = PrefixStore(1_000, most=2)
    store.put(prefix("", [1, 2]))
    store.put(prefix("", [3, 4]))
    store.find("", [1, 2, 9])
    store.put(prefix("", [5, 6]))
    assert store.find("", [1, 2, 9]) is not None
    assert store.find("", [3, 4, 9]) is None


def test_prefixes_stay_within_their_bytes() -> None:
    store: PrefixStore[str] = PrefixStore(100)
    for n in range(5):
        store.put(prefix("", [n], size=40))
    assert len(store) == 2
    store.put(prefix("", [9], size=400))
    assert len(store) == 0
