"""Programs as root models write them: (name, code); each prints what it found. `context` is ten dated lines."""

CONTEXT = "\n".join(
    f"2024-0{n % 9 + 1}-1{n % 10} || User: {n % 3} || Text: line {n} about {'cats' if n % 2 else 'dogs'}"
    for n in range(10)
)

TYPICAL = [
    ("peek", "print(len(context)); print(context[:40])"),
    ("split", "lines = context.split('\\n'); print(len(lines), lines[-1])"),
    ("regex", "import re\nprint(re.findall(r'User: (\\d)', context))"),
    (
        "named groups",
        "import re\nprint([m.group('d') for m in re.finditer(r'(?P<d>\\d{4}-\\d\\d-\\d\\d)', context)])",
    ),
    (
        "counter",
        "from collections import Counter\nprint(Counter(l.split()[-1] for l in context.splitlines()).most_common())",
    ),
    (
        "defaultdict",
        "from collections import defaultdict\nd = defaultdict(list)\nfor l in context.splitlines():\n    d[l.split('||')[1].strip()].append(l[-4:])\nprint(dict(d))",
    ),
    (
        "json",
        "import json\nprint(json.dumps({'a': [1, None, 'é']}, ensure_ascii=False)); print(json.loads('[1, 2.5]'))",
    ),
    (
        "chunks",
        "size = 100\nchunks = [context[i:i + size] for i in range(0, len(context), size)]\nprint(len(chunks), [len(c) for c in chunks][-1])",
    ),
    ("one call", "print(llm_query('say ' + context[:10]))"),
    ("call with model", "print(llm_query('hello', model='small'))"),
    ("call with keyword", "print(llm_query(prompt='hello'))"),
    ("batched", "print(llm_query_batched(['a', 'b', 'c']))"),
    ("batch alias", "print(llm_batch(['a', 'b']))"),
    ("empty batch", "print(llm_query_batched([]))"),
    ("rlm", "print(rlm_query('sub question'), rlm_query_batched(['x', 'y']))"),
    (
        "loop",
        "out = []\nfor c in context.splitlines():\n    out.append(llm_query(f'Summarise: {c[:12]}'))\nprint(out[0], len(out))",
    ),
    (
        "loop by index",
        "lines = context.splitlines()\nr = {}\nfor i in range(len(lines)):\n    r[i] = llm_query('L ' + lines[i][-4:])\nprint(r)",
    ),
    (
        "enumerate",
        "for i, l in enumerate(context.splitlines()[:3]):\n    a = llm_query(f'{i}: {l[:4]}')\n    print(i, a)",
    ),
    ("list comprehension", "print([llm_query(x) for x in 'abc'])"),
    ("filtered comprehension", "print([llm_query(x) for x in context.splitlines() if 'cats' in x][0])"),
    ("dict comprehension", "print({k: llm_query(k * 2) for k in ['x', 'y']})"),
    ("set comprehension", "print(sorted({llm_query(k) for k in 'aab'}))"),
    ("generator", "print('|'.join(llm_query(x) for x in ['a', 'b']))"),
    ("map", "print(list(map(llm_query, ['a', 'b'])))"),
    ("lambda", "ask = lambda q: llm_query('? ' + q)\nprint(ask('x'), [ask(q) for q in 'yz'])"),
    ("sort by answer", "print(sorted(['b', 'a'], key=llm_query))"),
    ("filter by answer", "print(list(filter(lambda q: 'A' in llm_query(q), ['a', 'b', 'aa'])))"),
    ("helper", "def ask(q):\n    return llm_query('Q: ' + q).strip()\nprint(ask('x'), [ask(q) for q in ['y', 'z']])"),
    (
        "helper with default",
        "def ask(q, style='short', n=2):\n    return llm_query(f'{style} {q}')[:n]\nprint(ask('x'), ask('y', n=4))",
    ),
    (
        "recursive helper",
        "def reduce(parts):\n    if len(parts) == 1:\n        return parts[0]\n    return reduce([llm_query(' '.join(parts[i:i + 2])) for i in range(0, len(parts), 2)])\nprint(reduce(list('abcd')))",
    ),
    ("generator function", "def answers():\n    for q in 'ab':\n        yield llm_query(q)\nprint(list(answers()))"),
    (
        "class",
        "class Agent:\n    def __init__(self, name):\n        self.name = name\n    def ask(self, q):\n        return llm_query(self.name + q)\nprint(Agent('bob ').ask('hi'))",
    ),
    (
        "dataclass",
        "from dataclasses import dataclass\n@dataclass\nclass R:\n    q: str\n    a: str\nprint([R(q, llm_query(q)) for q in 'ab'])",
    ),
    ("closure", "def make(n):\n    def f(q):\n        return llm_query(q * n)\n    return f\nprint(make(2)('ab'))"),
    (
        "decorator",
        "import functools\n@functools.lru_cache(None)\ndef ask(q):\n    return llm_query(q)\nprint(ask('a'), ask('a'), ask.cache_info().hits)",
    ),
    ("while", "n, s = 0, 'x'\nwhile n < 3:\n    s = llm_query(s + str(n)); n += 1\nprint(s)"),
    (
        "early break",
        "for q in 'abc':\n    r = llm_query(q)\n    if r == 'B':\n        print('found', q); break\nelse:\n    print('none')",
    ),
    ("int of answers", "print(sum(int(llm_query(str(n))) for n in range(4)))"),
    (
        "try int",
        "t = 0\nfor q in ['1', 'x', '3']:\n    try:\n        t += int(llm_query(q))\n    except ValueError:\n        print('bad', q)\nprint(t)",
    ),
    ("json answer", "import json\nprint(json.loads(llm_query('[1, 2]')))"),
    ("failed call", "r = llm_query('FAIL')\nprint(isinstance(r, SubCallError), r.code, isinstance(r, str), r[:6])"),
    (
        "failed among others",
        "rs = llm_query_batched(['a', 'FAIL', 'b'])\nprint([isinstance(r, SubCallError) for r in rs], rs[2])",
    ),
    (
        "thread pool map",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(max_workers=8) as ex:\n    print(list(ex.map(llm_query, ['a', 'b', 'c'])))",
    ),
    (
        "thread pool of helpers",
        "from concurrent.futures import ThreadPoolExecutor\ndef f(q):\n    return llm_query(q) + '!'\nwith ThreadPoolExecutor(4) as ex:\n    print(list(ex.map(f, ['a', 'b'])))",
    ),
    (
        "thread pool submit",
        "import concurrent.futures as cf\nwith cf.ThreadPoolExecutor() as ex:\n    fs = {ex.submit(llm_query, q): q for q in 'abc'}\n    print(sorted((fs[f], f.result()) for f in cf.as_completed(fs)))",
    ),
    (
        "thread pool wait",
        "import concurrent.futures as cf\nex = cf.ThreadPoolExecutor(2)\nfs = [ex.submit(llm_query, q, model='m') for q in 'ab']\ndone, left = cf.wait(fs)\nprint(len(done), len(left), [f.result() for f in fs])",
    ),
    (
        "thread pool error",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as ex:\n    f = ex.submit(lambda: 1 / 0)\n    print(type(f.exception()).__name__)",
    ),
    (
        "gather to_thread",
        "import asyncio\nasync def main():\n    return await asyncio.gather(*[asyncio.to_thread(llm_query, q) for q in 'abc'])\nprint(asyncio.run(main()))",
    ),
    (
        "gather awaited calls",
        "import asyncio\nasync def one(q):\n    return await llm_query(q)\nasync def main():\n    return await asyncio.gather(*(one(q) for q in 'abc'))\nprint(asyncio.run(main()))",
    ),
    (
        "gather plain calls",
        "import asyncio\nasync def main():\n    return await asyncio.gather(*[llm_query(q) for q in 'ab'])\nprint(asyncio.run(main()))",
    ),
    (
        "top-level await",
        "import asyncio\nprint(await llm_query('a'), await asyncio.gather(*[llm_query(q) for q in 'bc']))",
    ),
    (
        "run_in_executor",
        "import asyncio\nasync def main():\n    loop = asyncio.get_running_loop()\n    return await asyncio.gather(*[loop.run_in_executor(None, llm_query, q) for q in 'ab'])\nprint(asyncio.run(main()))",
    ),
    (
        "semaphore",
        "import asyncio\nasync def one(s, q):\n    async with s:\n        await asyncio.sleep(0.001)\n        return llm_query(q)\nasync def main():\n    s = asyncio.Semaphore(2)\n    return await asyncio.gather(*[one(s, q) for q in 'abc'])\nprint(asyncio.run(main()))",
    ),
    (
        "task group",
        "import asyncio\nasync def main():\n    async with asyncio.TaskGroup() as g:\n        ts = [g.create_task(asyncio.to_thread(llm_query, q)) for q in 'ab']\n    return [t.result() for t in ts]\nprint(asyncio.run(main()))",
    ),
    (
        "as_completed",
        "import asyncio\nasync def main():\n    return sorted([await f for f in asyncio.as_completed([asyncio.to_thread(llm_query, q) for q in 'ab'])])\nprint(asyncio.run(main()))",
    ),
    (
        "statistics",
        "import statistics, math\nprint(statistics.mean([1, 2, 4]), math.sqrt(16), statistics.median([3, 1, 2]))",
    ),
    (
        "datetime",
        "from datetime import datetime, timedelta\nd = [datetime.strptime(l[:10], '%Y-%m-%d') for l in context.splitlines()]\nprint(min(d).isoformat(), (max(d) - min(d)) // timedelta(days=1))",
    ),
    ("csv", "import csv, io\nprint(list(csv.DictReader(io.StringIO('a,b\\n1,2\\n'))))"),
    (
        "itertools",
        "import itertools\nprint(list(itertools.combinations('abc', 2)), list(itertools.islice(itertools.count(), 3)))",
    ),
    ("heapq and bisect", "import heapq, bisect\nprint(heapq.nlargest(2, [1, 5, 3]), bisect.bisect([1, 3], 2))"),
    (
        "textwrap and string",
        "import textwrap, string\nprint(textwrap.shorten('many words here', 10), string.ascii_lowercase[:3])",
    ),
    ("difflib", "import difflib\nprint(difflib.get_close_matches('appel', ['ape', 'apple']))"),
    (
        "hashing",
        "import hashlib, base64\nprint(hashlib.sha256(b'x').hexdigest()[:8], base64.b64encode(b'hi').decode())",
    ),
    ("random with a seed", "import random\nr = random.Random(7)\nprint(r.randint(1, 100), r.sample(range(10), 3))"),
    (
        "unicode",
        "import unicodedata\nprint(unicodedata.normalize('NFKD', 'é').encode('ascii', 'ignore'), '日本'[::-1])",
    ),
    (
        "match",
        "match context[:4].split('-'):\n    case [year]:\n        print('year', year)\n    case _:\n        print('else')",
    ),
    ("f-strings", "x = 3.14159\nprint(f'{x:.2f} {\"a\":>5} {1000:,} {x!r}')"),
    ("walrus", "if (n := len(context)) > 10:\n    print(n)"),
    ("exceptions", "try:\n    {}['x']\nexcept KeyError as e:\n    print('KeyError', e)\nfinally:\n    print('done')"),
    (
        "context manager",
        "from contextlib import redirect_stdout\nimport io\nb = io.StringIO()\nwith redirect_stdout(b):\n    print('hidden')\nprint(b.getvalue().upper())",
    ),
    (
        "pairs",
        "users = sorted({l.split('||')[1].strip() for l in context.splitlines()})\nprint([(a, b) for i, a in enumerate(users) for b in users[i + 1:]])",
    ),
    (
        "nested loops",
        "out = []\nfor d in ['x', 'y']:\n    for p in ['1', '2']:\n        out.append(llm_query(d + p))\nprint(out)",
    ),
    (
        "two calls a turn",
        "for q in 'ab':\n    a = llm_query('first ' + q)\n    b = llm_query('second ' + a)\n    print(b)",
    ),
    (
        "sub-call on a slice",
        "mid = len(context) // 2\nprint([len(llm_query(p)) for p in (context[:mid], context[mid:])])",
    ),
    ("print many", "for i in range(50):\n    print(i, end=' ')"),
    ("show variables", "x = 1\nprint('x: int = 1' in SHOW_VARS())"),
    ("big integers", "print(2 ** 200 % 97, sum(range(10_000)))"),
    ("sorting", "print(sorted(context.splitlines(), key=lambda l: (l.split('||')[1], l[:10]))[0][:10])"),
    ("error", "print('before')\nundefined_name"),
]

FINAL = [
    ("answer by key", "answer['content'] = 'forty'; answer['ready'] = True"),
    ("answer by dict", "answer = {'content': 'forty', 'ready': True}"),
    ("SUBMIT", "SUBMIT('forty')\nprint('not reached')"),
    ("SUBMIT a field", "SUBMIT(answer='forty')"),
    ("FINAL", "FINAL('forty')"),
    ("FINAL_VAR by name", "found = 'forty'\nFINAL_VAR('found')"),
    ("FINAL_VAR by value", "found = 'forty'\nFINAL_VAR(found)"),
    ("SUBMIT despite except", "try:\n    SUBMIT('forty')\nexcept Exception:\n    SUBMIT('caught')"),
]
