"""Chooses every piece of every text; further rounds cut at other places, so that nothing is always cut in two."""

ROUNDS = 3


def places_of(number):
    size = PIECE if number == 0 else PIECE * 2 // 3
    less = size * number // ROUNDS
    return [(name, *span) for name, text in texts.items() for span in spans(text, size, OVERLAP, less)]
