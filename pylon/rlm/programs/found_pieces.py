"""Chooses the pieces that contain words of the question: the rarer a word is in the texts, the more it counts."""

import re
from bisect import bisect_right

COMMON = set(
    "a about all an and are as at be by can did do does for from give given had has have how in into is it its many"
    " me mentioned much of on one or say says state tell that the their there this to was were what when where which"
    " who whose why will with".split()
)
TOP = 64
ROUNDS = 3
# A word with more places than this is too common to tell anything.
MOST = 20_000


def words_of(question):
    words = {word for word in re.findall(r"\w+(?:[-.]\w+)*", question) if word.lower() not in COMMON}
    parts = {part for word in words for part in re.split(r"[-.]", word) if len(part) > 2}
    return sorted(words | parts)


def standing(text, word):
    """The places of a word in a text, in lower case, upper case or capitalized."""
    for form in {word, word.lower(), word.capitalize(), word.upper()}:
        at = text.find(form)
        while at >= 0:
            yield at
            at = text.find(form, at + len(form))


pieces = {name: list(spans(text, PIECE, OVERLAP)) for name, text in texts.items()}


def ranked():
    starts = {name: [start for start, _ in spans_of] for name, spans_of in pieces.items()}
    scores = {}
    for word in words_of(QUESTION):
        found = set()
        for name, text in texts.items():
            for at in standing(text, word):
                found.add((name, bisect_right(starts[name], at) - 1))
                if len(found) > MOST:
                    break
        if 0 < len(found) <= MOST:
            print(f"{word!r} stands in {counted(len(found), 'piece')}")
            for place in found:
                scores[place] = scores.get(place, 0) + 1 / len(found)
    return sorted(scores, key=lambda place: (-scores[place], place))


ranking = ranked()


def places_of(number):
    return [(name, *pieces[name][index]) for name, index in ranking[number * TOP : (number + 1) * TOP]]
