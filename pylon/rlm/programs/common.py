"""The common part of the programs: the texts by name, cutting them into overlapping pieces, asking about pieces."""

if isinstance(context, dict):
    texts = {str(name): text if isinstance(text, str) else repr(text) for name, text in context.items()}
elif isinstance(context, str):
    texts = {"context": context}
else:
    texts = {str(number): text if isinstance(text, str) else repr(text) for number, text in enumerate(context)}

# A piece of this many characters or fewer is not halved.
LEAST = 200
TOO_LARGE = ("too_large", "budget_prompt_size")
# With these codes the budget is used up, and further calls would be refused as well.
SPENT = ("budget_sats", "budget_calls", "budget_tokens", "budget_wall_time", "budget_disk")
# What the answer lacks, in words.
missing = []


def counted(number, word):
    """A number with its noun: 1 piece, 1,200 pieces."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def failures(replies):
    """The replies that are errors."""
    return [reply for reply in replies if isinstance(reply, SubCallError)]


def spent(replies):
    """Whether the budget ended during these calls."""
    return any(reply.code in SPENT for reply in failures(replies))


def read_of(replies):
    """How many pieces were read, in words; empty if all were. Ends the program if none was, since "nothing found"
    would be no answer then."""
    failed = failures(replies)
    if spent(replies):
        read = f"{len(replies) - len(failed):,} of {counted(len(replies), 'piece')} were read before the budget ended"
    else:
        read = f"{len(failed):,} of {counted(len(replies), 'piece')} got no answer" if failed else ""
    if failed and len(failed) == len(replies):
        none = f"none of {counted(len(replies), 'piece')} got an answer; the last one: {failed[-1]}"
        raise RuntimeError(read if spent(replies) else none)
    return read


def nothing_found(read):
    """Ends the program without an answer: the budget ended, and nothing was found in the pieces that were read."""
    raise RuntimeError(f"{read}, and nothing was found in them")


def finish(content):
    """Ends the program with its answer, and what that lacks."""
    answer["content"] = content
    answer["partial"] = "; ".join(missing)
    answer["ready"] = True


def size_of(text):
    """The size of a text in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def fitting(text, start, size):
    """The end of the longest part of `text` from `start` on that has at most `size` bytes."""
    part = text[start : start + size]
    if not part.isascii():
        part = part.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
    return start + len(part)


def after_space(text, at, lowest):
    """The place after the last white space before `at`, or `at` if there is none after `lowest`."""
    for place in range(at, max(lowest, 0), -1):
        if text[place - 1].isspace():
            return place
    return at


def spans(text, size, overlap, less=0):
    """The starts and ends of pieces of at most `size` bytes that overlap by `overlap`; the first piece is shorter by
    `less`."""
    start, room = 0, size - less
    while start < len(text):
        end = fitting(text, start, room)
        # The overlap in characters, by the characters for each byte of this piece.
        shared = overlap * (end - start) // room
        if end < len(text):
            end = after_space(text, end, end - shared // 4)
        yield start, end
        if end == len(text):
            return
        start, room = after_space(text, end - shared + shared // 4, end - shared), size


def halves(place):
    """The two halves of a piece; empty if it is too short to be halved."""
    name, start, end = place
    middle, shared = (start + end) // 2, (end - start) // 20
    return [] if end - start < LEAST else [(name, start, middle + shared), (name, middle - shared, end)]


def about(head, places):
    """Asks about pieces; returns their places and the replies, in order. A piece that is too large for its provider
    is asked about in two halves."""
    waiting, done = list(enumerate(places)), []
    while waiting:
        replies = llm_query_batched([head + texts[name][start:end] for _, (name, start, end) in waiting])
        again = []
        for (number, place), reply in zip(waiting, replies):
            too_large = isinstance(reply, SubCallError) and reply.code in TOO_LARGE
            parts = halves(place) if too_large else []
            again += [(number, part) for part in parts]
            if not parts:
                done.append((number, place, reply))
        waiting = again
    done.sort(key=lambda one: (one[0], one[1][1]))
    return [place for _, place, _ in done], [reply for _, _, reply in done]
