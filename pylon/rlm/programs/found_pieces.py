"""Pieces in which the question's words stand: the rarer a word is in the texts, the more it counts."""

import re

COMMON = set(
    "a about all an and are as at be by can did do does for from give given had has have how in into is it its many"
    " me mentioned much of on one or say says state tell that the their there this to was were what when where which"
    " who whose why will with".split()
)
TOP = 64
ROUNDS = 3
# A word that stands in more places than this tells nothing.
MOST = 20_000


def words_of(question):
    words = {word for word in re.findall(r"\w+(?:[-.]\w+)*", question) if word.lower() not in COMMON}
    parts = {part for word in words for part in re.split(r"[-.]", word) if len(part) > 2}
    return sorted(words | parts)


def standing(text, word):
    """Where a word stands, in the ways in which it may be written."""
    for form in {word, word.lower(), word.capitalize(), word.upper()}:
        at = text.find(form)
        while at >= 0:
            yield at
            at = text.find(form, at + len(form))


def ranked():
    step = PIECE - OVERLAP
    scores = {}
    for word in words_of(QUESTION):
        found = set()
        for name, text in texts.items():
            for at in standing(text, word):
                found.add((name, at // step))
                if len(found) > MOST:
                    break
        if 0 < len(found) <= MOST:
            print(f"{word!r} stands in {len(found):,} pieces")
            for place in found:
                scores[place] = scores.get(place, 0) + 1 / len(found)
    return sorted(scores, key=lambda place: (-scores[place], place))


ranking = ranked()


def places_of(number):
    step = PIECE - OVERLAP
    chosen = ranking[number * TOP : (number + 1) * TOP]
    places = []
    for name, index in chosen:
        text = texts[name]
        start = after_space(text, index * step, index * step - OVERLAP // 2) if index else 0
        places.append((name, start, min(len(text), start + PIECE)))
    return places
