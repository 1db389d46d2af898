"""Longer programs as root models write them, by what they do. `context` is twelve sections of a text."""

CONTEXT = "\n\n".join(
    f"== Section {n} ==\nDate: 2024-0{n % 9 + 1}-1{n % 10} || User: {n % 3} || "
    f"Text: line {n} about {'cats' if n % 2 else 'dogs'}.\nMore of it: see Section {(n * 7) % 12}."
    for n in range(12)
)

WRITTEN = {
    "line chunks joined": """
lines = context.split('\\n')
size = 6
chunks = ['\\n'.join(lines[i:i+size]) for i in range(0, len(lines), size)]
answers = []
for i, chunk in enumerate(chunks):
    answer = llm_query(f"Chunk {i+1}/{len(chunks)}: what is said about cats?\\n\\n{chunk}")
    answers.append(answer)
    print(f"chunk {i}: {answer[:60]}")
final = llm_query("Combine:\\n" + "\\n".join(answers))
print(final)""",
    "paragraphs with buffer": """
paragraphs = [q.strip() for q in context.split('\\n\\n') if q.strip()]
chunks, buf = [], ''
for q in paragraphs:
    if len(buf) + len(q) > 300 and buf:
        chunks.append(buf)
        buf = ''
    buf += q + '\\n\\n'
if buf:
    chunks.append(buf)
notes = {}
for idx, c in enumerate(chunks):
    notes[idx] = llm_query(f'Summarise part {idx}: {c}')
summary = llm_query('Summaries:\\n' + '\\n'.join(f'{k}: {v}' for k, v in notes.items()))""",
    "regex split with headers": """
import re
parts = re.split(r'== (.+?) ==', context)
buffers = []
for i in range(1, len(parts), 2):
    header, info = parts[i], parts[i+1]
    summary = llm_query(f"Summarize this {header} section: {info}")
    buffers.append(f"{header}: {summary}")
final_answer = llm_query("Based on these summaries, answer the query: What?\\n\\n" + "\\n".join(buffers))""",
    "finditer sections": """
import re
sections = []
for m in re.finditer(r'== (Section \\d+) ==\\n(.*?)(?=\\n\\n|$)', context, re.S):
    sections.append((m.group(1), m.group(2)))
out = []
for title, body in sections:
    out.append(llm_query(f'{title}: {body}'))""",
    "finditer windows": """
import re
hits = []
for m in re.finditer(r'cats', context):
    start, end = max(0, m.start() - 40), min(len(context), m.end() + 40)
    hits.append(llm_query('Explain: ' + context[start:end]))
print(len(hits))""",
    "batched in batches": """
records = [l for l in context.splitlines() if 'Text:' in l]
batch_size = 4
labels = []
for i in range(0, len(records), batch_size):
    batch = records[i:i + batch_size]
    prompts = [f'Classify: {r}' for r in batch]
    labels.extend(llm_query_batched(prompts))
    print(f'{min(i + batch_size, len(records))}/{len(records)}')""",
    "islice batches": """
from itertools import islice
it = iter(context.split('\\n\\n'))
res = []
while True:
    batch = list(islice(it, 3))
    if not batch:
        break
    res.append(llm_query('\\n'.join(batch)))""",
    "islice first few": """
from itertools import islice
res = {}
for i, sec in enumerate(islice(context.split('\\n\\n'), 5)):
    res[i] = llm_query(sec)""",
    "counter update": """
from collections import Counter
c = Counter()
for sec in context.split('\\n\\n'):
    a = llm_query('words in ' + sec[:16])
    c.update(a.lower().split())
print(c.most_common(5))""",
    "search group outside try": """
import re
nums = []
for sec in context.split('\\n\\n'):
    a = llm_query('number in ' + sec[:20])
    m = re.search(r'SECTION (\\d+)', a)
    if m:
        nums.append(m.group(1).strip())
print(nums)""",
    "search group conditional expr": """
import re
r = {}
for i, sec in enumerate(context.split('\\n\\n')):
    a = llm_query('date in ' + sec)
    m = re.search(r'(\\d{4})-(\\d\\d)-(\\d\\d)', a)
    r[i] = m.group(0) if m else None
print(r)""",
    "walrus match": """
import re
r = []
for sec in context.split('\\n\\n'):
    a = llm_query('date in ' + sec)
    if (m := re.search(r'DATE: (?P<d>\\S+)', a)):
        r.append(m.group('d'))
    else:
        r.append('none')""",
    "match is None continue": """
import re
r = []
for sec in context.split('\\n\\n'):
    a = llm_query('date in ' + sec)
    m = re.match(r'DATE IN (.*)', a)
    if m is None:
        print('no match')
        continue
    r.append(m.group(1).strip())""",
    "while with window": """
pos, n, size, overlap = 0, len(context), 400, 50
outs = []
while pos < n:
    piece = context[pos:pos + size]
    outs.append(llm_query(f'[{pos}:{pos + len(piece)}] {piece}'))
    pos += size - overlap""",
    "hierarchical reduce": """
def reduce_all(texts, depth=0):
    if len(texts) <= 2:
        return llm_query('Merge: ' + ' | '.join(texts))
    groups = [texts[i:i+3] for i in range(0, len(texts), 3)]
    merged = [llm_query(f'Merge level {depth}: ' + ' | '.join(g)) for g in groups]
    return reduce_all(merged, depth + 1)
first = [llm_query('Sum: ' + s) for s in context.split('\\n\\n')]
result = reduce_all(first)""",
    "dict of results then filter": """
docs = {f'doc{i}': s for i, s in enumerate(context.split('\\n\\n'))}
relevant = {}
for name, text in docs.items():
    verdict = llm_query(f'Is {name} about cats? Answer yes or no.\\n{text}')
    relevant[name] = verdict.strip().lower().startswith('is')
    print(name, relevant[name])
keep = [n for n, ok in relevant.items() if ok]
details = [llm_query(f'Detail {n}: {docs[n]}') for n in keep]""",
    "helper cleaning fences": """
import json, re
def parse(text):
    text = re.sub(r'^```(?:json)?|```$', '', text.strip(), flags=re.M).strip()
    try:
        return json.loads(text)
    except Exception as e:
        return {'error': str(e)[:20]}
rows = []
for s in context.split('\\n\\n'):
    d = parse(llm_query('json of ' + s[:12]))
    if isinstance(d, dict):
        rows.append(d)
print(len(rows))""",
    "pairs compare": """
secs = context.split('\\n\\n')[:5]
same = []
for i in range(len(secs)):
    for j in range(i + 1, len(secs)):
        v = llm_query(f'Same topic?\\nA: {secs[i]}\\nB: {secs[j]}')
        if 'YES' in v.upper():
            same.append((i, j))
print(same)""",
    "itertools combinations": """
from itertools import combinations
secs = context.split('\\n\\n')[:4]
same = [(a[:9], b[:9], llm_query(a + b)) for a, b in combinations(secs, 2)]""",
    "enumerate start and format": """
for n, line in enumerate([l for l in context.splitlines() if l.startswith('Date')], start=1):
    ans = llm_query("Q{:03d}: {}".format(n, line))
    print("{:>3}. {}".format(n, ans[:30]))""",
    "zip of prompts and answers": """
users = sorted({l.split('||')[1].strip() for l in context.splitlines() if '||' in l})
prompts = [f'Who is {u}?' for u in users]
answers = llm_query_batched(prompts)
table = dict(zip(users, answers))
second = [llm_query(f'{u}: {a}') for u, a in table.items()]
for u in users:
    print(u, table[u])""",
    "group by user defaultdict": """
from collections import defaultdict
by = defaultdict(list)
for l in context.splitlines():
    if '||' in l:
        date, user, text = [x.strip() for x in l.split('||')]
        by[user].append(text)
out = {}
for user, texts in sorted(by.items()):
    out[user] = llm_query(f'{user} said {len(texts)}: ' + '; '.join(texts))""",
    "dict setdefault and append": """
groups = {}
for l in context.splitlines():
    if '||' in l:
        groups.setdefault(l.split('||')[1].strip(), []).append(l)
out = []
for k in groups:
    out.append((k, llm_query(k + str(len(groups[k])))))""",
    "filter lambda": """
secs = list(filter(lambda s: 'cats' in s, context.split('\\n\\n')))
out = [llm_query(s) for s in secs]
keep = list(filter(None, [x.strip() for x in out]))""",
    "filter None of lines": """
out = []
for line in filter(None, context.splitlines()):
    out.append(llm_query(line))""",
    "keywords score then top": """
keywords = ['cats', 'Section 7', '2024']
def score(t):
    return sum(t.count(k) for k in keywords)
ranked = sorted(enumerate(context.split('\\n\\n')), key=lambda x: -score(x[1]))
for idx, sec in ranked[:5]:
    print(idx, score(sec))
    print(llm_query(f'Read {idx}: {sec}'))""",
    "list sort key": """
secs = context.split('\\n\\n')
secs.sort(key=len, reverse=True)
r = [llm_query(s) for s in secs[:4]]""",
    "results list of dicts": """
results = []
for i, s in enumerate(context.split('\\n\\n')):
    a = llm_query(s)
    results.append({'i': i, 'answer': a, 'len': len(a)})
best = max(results, key=lambda d: d['len'])
print(best['i'], sum(d['len'] for d in results) / len(results))""",
    "results list sorted and joined": """
results = []
for i, s in enumerate(context.split('\\n\\n')):
    a = llm_query(s[:30])
    if a and 'none' not in a.lower():
        results.append((i, a))
text = '\\n'.join(f'[{i}] {a}' for i, a in results)
print(text[:50])
final = llm_query('final ' + text)""",
    "yes no counting": """
yes = no = 0
for l in context.splitlines():
    if not l.startswith('Date'):
        continue
    a = llm_query(f'cats? {l}').strip().lower()
    if a.startswith('cats'):
        yes += 1
    elif a.startswith('no'):
        no += 1
print(f'{yes} yes, {no} no, {100 * yes / max(1, yes + no):.1f}%')""",
    "truncate with ternary and nested f": '''
MAX = 80
memo = {}
for i, s in enumerate(context.split('\\n\\n')):
    key = s.split('\\n')[0].strip('= ')
    shown = s if len(s) <= MAX else s[:MAX] + '...'
    memo[key] = llm_query(f"""You see {'the end' if i == 11 else f'part {i}'}:
{shown}""")
print(list(memo)[:2], {k: v[:5] for k, v in memo.items()})''',
    "main function": """
def main():
    secs = context.split('\\n\\n')
    def ask(i, s):
        return i, llm_query(f'{i} {s}')
    first = [ask(i, s) for i, s in enumerate(secs)]
    print('\\n'.join(f'{i}: {a[:10]}' for i, a in first))
    return llm_query(str([a for _, a in first]))
if __name__ == '__main__':
    result = main()""",
    "partition lines of answer": """
facts = {}
for s in context.split('\\n\\n'):
    a = llm_query('facts: x\\n' + s)
    for line in a.split('\\n'):
        k, sep, v = line.partition(':')
        if sep:
            facts[k.strip()] = v.strip()
print(facts)""",
    "del and reuse": """
buf = []
out = []
for l in context.splitlines():
    buf.append(l)
    if sum(len(x) for x in buf) > 200:
        out.append(llm_query('\\n'.join(buf)))
        buf.clear()
if buf:
    out.append(llm_query('\\n'.join(buf)))""",
    "slice assign buf reset": """
buf, size, out = [], 0, []
for l in context.splitlines():
    if size + len(l) > 200:
        out.append(llm_query('\\n'.join(buf)))
        buf, size = [], 0
    buf.append(l)
    size += len(l) + 1
out.append(llm_query('\\n'.join(buf)))""",
    "chained comparison and not in": """
out = []
for i, s in enumerate(context.split('\\n\\n')):
    if 2 <= i < 9 and 'dogs' not in s:
        out.append(llm_query(s))""",
    "dict fromkeys and order dedupe": """
words = list(dict.fromkeys(w.strip('.,') for w in context.split() if w.istitle()))
defs = {w: llm_query(f'define {w}') for w in words[:6]}""",
    "list comp batched per doc with slices": """
def chunk(t, n=200, o=20):
    return [t[i:i+n] for i in range(0, max(1, len(t) - o), n - o)]
answers = llm_query_batched([f'Q: x\\n---\\n{c}' for c in chunk(context)])
useful = [a for a in answers if 'CATS' in a]
combined = '\\n---\\n'.join(useful)
print(len(useful))
final = rlm_query('Answer from:\\n' + combined) if useful else 'unknown'""",
    "votes": """
from collections import Counter
q = 'What is it about?'
votes = [llm_query(f'{q} (attempt {i})') for i in range(5)]
winner, n = Counter(v.strip().lower() for v in votes).most_common(1)[0]
print(winner, n)
check = llm_query(f'Is {winner} right?')""",
    "verify each answer": """
draft = {}
for s in context.split('\\n\\n')[:6]:
    title = s.splitlines()[0]
    draft[title] = llm_query(f'Extract from {s}')
verified = {t: llm_query(f'Verify {t}: {d}') for t, d in draft.items()}
bad = [t for t, v in verified.items() if 'WRONG' in v]
print(bad)""",
}
