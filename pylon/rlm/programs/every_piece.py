"""Every piece of every text; a second round cuts them elsewhere, so that what one border hides another shows."""

ROUNDS = 3


def places_of(number):
    size = PIECE if number == 0 else PIECE * 2 // 3
    first = 0 if number == 0 else -(size * number // ROUNDS)
    return [
        (name, max(0, start), end)
        for name, text in texts.items()
        for start, end in spans(text, size, OVERLAP, first)
        if end > 0
    ]
