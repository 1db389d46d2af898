"""Scripts in place of root models: one program for each task, as a capable root model might write it.

They drive the whole loop offline (`ScriptedRoot`); what they score is the loop's and the sub-model's doing.
"""

from __future__ import annotations

import re

from benchmarks.rlm.stand_in import LABEL_PROMPT
from benchmarks.rlm.task import Task

_LOOK = "print(len(context)); print(context[:600])"

_NEEDLE = """
question = {question!r}
size, overlap = 4000, 200
chunks = [context[at:at + size] for at in range(0, len(context), size - overlap)]
said = llm_query_batched([question + "\\n\\n" + chunk for chunk in chunks])
found = [one.strip() for one in said if one.strip() not in ("", "none")]
FINAL(found[0] if found else "none")
"""

_LABELS = """
import re
from collections import Counter, defaultdict
from datetime import datetime
rows = []
for line in context.splitlines():
    hit = re.match(r"Date: (.+?) \\|\\| User: (\\d+) \\|\\| Instance: (.+)", line)
    if hit:
        rows.append((datetime.strptime(hit[1], "%b %d, %Y").date(), hit[2], hit[3]))
groups = [rows[at:at + {group}] for at in range(0, len(rows), {group})]
prompts = [
    {prompt!r} + "\\n".join(f"{{n}}: {{row[2]}}" for n, row in enumerate(group, 1))
    for group in groups
]
labels = []
for group, said in zip(groups, llm_query_batched(prompts)):
    given = dict(re.findall(r"(\\d+): (.+)", said))
    labels += [given.get(str(n), "").strip() for n in range(1, len(group) + 1)]
data = [(day, user, label) for (day, user, _), label in zip(rows, labels)]
counts = Counter(label for _, _, label in data)
print(counts.most_common())
"""

_ANSWERS = {
    "most common": "FINAL(counts.most_common()[0][0])",
    "least common": "FINAL(counts.most_common()[-1][0])",
    "count": "FINAL(counts[{quoted[0]!r}])",
    "comparison": (
        "a, b = counts[{quoted[0]!r}], counts[{quoted[4]!r}]\n"
        "FINAL('more common than' if a > b else 'less common than' if a < b else 'of the same frequency as')"
    ),
    "user with most": "FINAL(Counter(u for _, u, l in data if l == {quoted[0]!r}).most_common(1)[0][0])",
    "count of a user": "FINAL(sum(u == '{user}' and l == {quoted[0]!r} for _, u, l in data))",
    "count before a date": "FINAL(sum(d < {day} and l == {quoted[0]!r} for d, _, l in data))",
    "count after a date": "FINAL(sum(d > {day} and l == {quoted[0]!r} for d, _, l in data))",
    "month with most": (
        "FINAL(Counter(f'{{d:%B %Y}}' for d, _, l in data if l == {quoted[0]!r}).most_common(1)[0][0])"
    ),
}

_PAIRS = """
from itertools import combinations
from datetime import date
users = defaultdict(list)
for day, user, label in data:
    users[int(user)].append((day, label))
has = lambda mine, *labels: any(label in labels for _, label in mine)
{roles}
hit = [(a, b) for a, b in combinations(sorted(users), 2)
       if (one(users[a]) and other(users[b])) or (one(users[b]) and other(users[a]))]
FINAL("\\n".join(f"({{a}}, {{b}})" for a, b in hit))
"""

_ROLES = {
    "task 1": "one = other = lambda mine: has(mine, 'numeric value', 'location')",
    "task 4": (
        "one = other = lambda mine: has(mine, 'human being', 'location') and"
        " all(day > date(2023, 1, 6) for day, label in mine if label == 'human being')"
    ),
    "task 11": (
        "one = lambda mine: has(mine, 'entity') and has(mine, 'abbreviation')\n"
        "other = lambda mine: sum(label == 'entity' for _, label in mine) == 1"
    ),
}

_HOPS = """
import re
documents = dict(re.findall(r"# (.+)\\n(.+)\\n", context))
house = re.search(r"the founder of (.+?) was born", {question!r})[1]
founder = llm_query(f"Who founded {{house}}?\\n\\n" + documents[house])
town = llm_query(f"Where was {{founder}} born?\\n\\n" + documents.get(founder, ""))
FINAL(llm_query(f"On which river lies {{town}}?\\n\\n" + documents.get(town, "")))
"""


def turns(task: Task, *, group: int = 20) -> list[str]:
    """The replies of the scripted root, turn by turn; lines are labelled `group` at a time."""
    labelling = _LABELS.format(prompt=LABEL_PROMPT, group=group)
    if task.kind == "s-niah":
        cells = [_LOOK, _NEEDLE.format(question=task.question)]
    elif task.kind == "oolong":
        cells = [_LOOK, labelling, _answer(task)]
    elif task.kind == "oolong-pairs":
        cells = [_LOOK, labelling, _PAIRS.format(roles=_ROLES[task.name])]
    else:
        cells = [_LOOK, _HOPS.format(question=task.question)]
    return [f"```repl\n{cell.strip()}\n```" for cell in cells]


def _answer(task: Task) -> str:
    day = re.search(r"(?:before|after) (\w{3} \d+, \d{4})", task.question)
    user = re.search(r"user (\d+)", task.question)
    return _ANSWERS[task.name].format(
        quoted=re.findall(r"'([^']+)'", task.question),
        user=user[1] if user else "",
        day=f'datetime.strptime("{day[1]}", "%b %d, %Y").date()' if day else "",
    )
