"""Common: the texts by name, cutting them into pieces that overlap, and asking about those."""

if isinstance(context, dict):
    texts = {str(name): text if isinstance(text, str) else repr(text) for name, text in context.items()}
elif isinstance(context, str):
    texts = {"context": context}
else:
    texts = {str(number): text if isinstance(text, str) else repr(text) for number, text in enumerate(context)}

# A piece of so few characters is not cut again.
LEAST = 200
TOO_LARGE = ("too_large", "budget_prompt_size")
# The budget refuses so, and whatever else is asked would be refused as well.
SPENT = ("budget_sats", "budget_calls", "budget_tokens", "budget_wall_time", "budget_disk")
# What the answer lacks, in words.
missing = []


def counted(number, word):
    """As people say it: 1 piece, 1,200 pieces."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def failures(replies):
    """Those in whose place no answer stands."""
    return [reply for reply in replies if isinstance(reply, SubCallError)]


def spent(replies):
    """Whether the budget ended over them."""
    return any(reply.code in SPENT for reply in failures(replies))


def read_of(replies):
    """How many of the pieces that these are about were read, in words. Ends the program where none was: that nothing
    is found would be no answer then."""
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
    """Ends the program where the budget did not let it look at all of the text, and nothing stands in the rest."""
    raise RuntimeError(f"{read}, and nothing was found in them")


def finish(content):
    """The program's end: its answer, and what that lacks."""
    answer["content"] = content
    answer["partial"] = "; ".join(missing)
    answer["ready"] = True


def size_of(text):
    """Bytes of UTF-8, which is what has to fit."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def fitting(text, start, size):
    """The end of what stands in `text` from `start` on in `size` bytes."""
    part = text[start : start + size]
    if not part.isascii():
        part = part.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
    return start + len(part)


def after_space(text, at, lowest):
    """Just behind the last white space before `at`, or `at` when there is none above `lowest`."""
    for place in range(at, max(lowest, 0), -1):
        if text[place - 1].isspace():
            return place
    return at


def spans(text, size, overlap, less=0):
    """Starts and ends of pieces of at most `size` bytes that share `overlap`; the first is shorter by `less`."""
    start, room = 0, size - less
    while start < len(text):
        end = fitting(text, start, room)
        # In characters, of which there are as many a byte as in this piece.
        shared = overlap * (end - start) // room
        if end < len(text):
            end = after_space(text, end, end - shared // 4)
        yield start, end
        if end == len(text):
            return
        start, room = after_space(text, end - shared + shared // 4, end - shared), size


def halves(place):
    """The two halves of a piece, or nothing where that is too little to be asked about."""
    name, start, end = place
    middle, shared = (start + end) // 2, (end - start) // 20
    return [] if end - start < LEAST else [(name, start, middle + shared), (name, middle - shared, end)]


def about(head, places):
    """Places with replies about them, in order; of a piece that is too large both halves are asked about."""
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
