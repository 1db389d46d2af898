"""Every piece of every text; a second round cuts them elsewhere, so that what one border hides another shows."""

ROUNDS = 3


def places_of(number):
    size = PIECE if number == 0 else PIECE * 2 // 3
    less = size * number // ROUNDS
    return [(name, *span) for name, text in texts.items() for span in spans(text, size, OVERLAP, less)]
