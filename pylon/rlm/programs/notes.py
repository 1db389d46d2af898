"""For any sub-model: takes notes on each piece, merges them until they fit one prompt, and answers from them."""


def says_nothing(reply):
    """Whether a reply says that nothing was found."""
    return reply.strip().lower().strip(".") in ("", ABSENT)


places, replies = about(ASKS[0], places_of(0))
print(counted(len(places), "piece"))
read = read_of(replies)
notes = [
    f"[{name}, from character {start:,}] {reply.strip()}"
    for (name, start, end), reply in zip(places, replies)
    if not isinstance(reply, SubCallError) and not says_nothing(reply)
]
failed = len(failures(replies))
print(f"{counted(len(notes), 'piece')} {'says' if len(notes) == 1 else 'say'} something, {failed} failed")
if read:
    missing.append(read)
if not notes and spent(replies):
    nothing_found(read)


def bundles(notes):
    """Groups of notes that each fit one prompt; a single note that is too long is cut."""
    groups, size = [[]], 0
    for note in notes:
        note = note[: fitting(note, 0, PIECE - 2)]
        if size + size_of(note) + 2 > PIECE and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append(note)
        size += size_of(note) + 2
    return groups


groups = bundles(notes)
while len(groups) > 1:
    shorter = llm_query_batched([COMBINE + "\n\n".join(group) for group in groups])
    # A group that could not be merged is kept as it is, and cut below like the others.
    kept = [
        "\n\n".join(group) if isinstance(reply, SubCallError) else reply.strip()
        for group, reply in zip(groups, shorter)
    ]
    kept = [note for note in kept if note]
    lost = len(failures(shorter))
    print(f"{counted(len(groups), 'group')} of notes put together, {lost} failed")
    if lost:
        missing.append(f"{lost:,} of {len(groups):,} groups of notes could not be put together")
    # Notes that do not get shorter are cut, or this loop would never end.
    groups = bundles([note[: fitting(note, 0, PIECE // 2 - 4)] for note in kept])
# Without a conclusion the notes are the best answer there is.
answer["content"] = "\n\n".join(groups[0])
conclusion = llm_query(CONCLUDE + answer["content"]) if groups[0] else ABSENT
if isinstance(conclusion, SubCallError):
    missing.append("these are the notes, as no conclusion came from them")
    conclusion = answer["content"]
elif groups[0] and says_nothing(conclusion):
    # A model that finds nothing in notes that say something cannot read notes, but only texts.
    missing.append("these are the notes, as a model was asked about them that found nothing there")
    conclusion = answer["content"]
finish(conclusion)
