"""Common: the texts by name, and cutting them into pieces that overlap."""

if isinstance(context, dict):
    texts = {str(name): text if isinstance(text, str) else repr(text) for name, text in context.items()}
elif isinstance(context, str):
    texts = {"context": context}
else:
    texts = {str(number): text if isinstance(text, str) else repr(text) for number, text in enumerate(context)}


def none_answered(replies):
    """Ends the program where no sub-call was answered: that nothing is found would be no answer then."""
    if replies and all(isinstance(reply, SubCallError) for reply in replies):
        raise RuntimeError(f"none of {len(replies):,} sub-calls was answered; the last one: {replies[-1]}")


def after_space(text, at, lowest):
    """Just behind the last white space before `at`, or `at` when there is none above `lowest`."""
    for place in range(at, max(lowest, 0), -1):
        if text[place - 1].isspace():
            return place
    return at


def spans(text, size, overlap, first=0):
    """Starts and ends of pieces of at most `size` characters that share `overlap`, the first one from `first`."""
    start = first
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            end = after_space(text, end, end - overlap // 4)
        yield start, end
        if end == len(text):
            return
        start = after_space(text, end - overlap + overlap // 4, end - overlap)
