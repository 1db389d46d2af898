"""For a reader: a sub-model that copies a value out of a piece, or says that it is not there.

Every piece is asked about once. An answer that occurs in its piece is a candidate. Candidates are asked about again,
in other words and with other surrounding text, and the one that is confirmed most often is the answer. A reader that
errs now and then does so in one wording or cut of a place, not in all of them.
"""

# The bytes before and after a candidate that are shown with it, for each look at it.
AROUND = ((300, 300), (700, 200), (200, 700), (120, 120), (450, 450), (900, 60), (60, 900), (600, 600))
# Shares of the answered looks that confirm a candidate: from `ENOUGH` on there is no further round, and below
# `LEAST_SHARE` the candidate is no answer.
ENOUGH = 0.6
LEAST_SHARE = 0.3
failed = asked = 0
pieces_read = []
scores = {}
times = {}


def values(places, replies):
    """The candidates among the replies, each with the places where it occurs."""
    found = {}
    for (name, start, end), reply in zip(places, replies):
        value = reply.strip()
        if isinstance(reply, SubCallError) or not value or value.lower().strip(".") == ABSENT:
            continue
        at = texts[name].find(value, start, end)
        if at >= 0:
            found.setdefault(value, set()).add((name, at))
    return found


def before(text, end, size):
    """The start of the longest part of `text` up to `end` that has at most `size` bytes."""
    part = text[max(0, end - size) : end]
    if not part.isascii():
        part = part.encode("utf-8", "replace")[-size:].decode("utf-8", "ignore")
    return end - len(part)


def looks(value, name, at):
    """The prompts that look at a place again, with other surrounding text and in other words."""
    text = texts[name]
    for number, (left, right) in enumerate(AROUND):
        start = before(text, at, left)
        start = after_space(text, start, start - 40)
        end = fitting(text, at + len(value), right)
        if end < len(text):
            end = max(at + len(value), after_space(text, end, end - 40))
        yield ASKS[number % len(ASKS)] + text[start:end]


def share(value):
    """The share of a candidate's answered looks that confirm it."""
    answered, agreed = scores[value]
    return agreed / answered if answered else 0.0


for number in range(ROUNDS):
    places, replies = about(ASKS[number % len(ASKS)], places_of(number))
    print(f"round {number + 1}: {counted(len(places), 'piece')}")
    pieces_read += replies
    read = read_of(pieces_read)
    found = values(places, replies)
    again = [
        (value, prompt) for value in found for place in sorted(found[value])[:3] for prompt in looks(value, *place)
    ]
    print(f"{counted(len(found), 'candidate')}, {counted(len(again), 'look')} at their surroundings")
    second = llm_query_batched([prompt for _, prompt in again])
    for (value, _), reply in zip(again, second):
        answered, agreed = scores.get(value, (0, 0))
        # A look without an answer counts neither for a candidate nor against it.
        looked = not isinstance(reply, SubCallError)
        scores[value] = (answered + looked, agreed + (looked and reply.strip() == value))
    asked += len(replies) + len(second)
    failed += len(failures(replies + second))
    for value in found:
        times[value] = times.get(value, 0) + len(found[value])
    ranking_of_values = sorted(scores, key=lambda value: (-share(value), -times[value], value))
    for value in ranking_of_values[:5]:
        print(f"  {value!r}: {scores[value][1]} of {counted(scores[value][0], 'look')} agree")
    best = ranking_of_values[0] if ranking_of_values else ""
    unseen = bool(best) and not scores[best][0]
    sure = bool(best) and (unseen or share(best) >= LEAST_SHARE)
    answer["content"] = best if sure else ""
    if (best and share(best) >= ENOUGH) or spent(replies + second):
        break
print(f"{counted(asked, 'sub-call')}, {failed} of them failed")
if read:
    missing.append(read)
if unseen:
    missing.append("no second look at this answer was answered")
if not sure and number == 0 and spent(replies):
    nothing_found(read)
finish(best if sure else ABSENT)
