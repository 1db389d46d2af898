"""Random texts for benchmarks."""

import random


def prose(rng: random.Random, size: int) -> str:
    """`size` characters of words of random letters, which compress worse than any text that people write."""
    words: list[str] = []
    length = 0
    while length <= size:
        word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9)))
        words.append(word)
        length += len(word) + 1
    return " ".join(words)[:size]
