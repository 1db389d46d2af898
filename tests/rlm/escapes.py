"""What code in a sandbox may try: (name, program). A program sets `got` to what it gained, and leaves it None if nothing.

Each runs in a REPL of its own kind, many in one. Some of them end the sandbox, which is no escape: the parent must be
unharmed and the next cell must work. `SECRET` is a word that only files, environment and memory of the parent hold.
"""

import textwrap

SECRET = "correct-horse-battery-staple"


def _attempt(expression, setup=""):
    return (
        f"got = None\n{textwrap.dedent(setup)}\ntry:\n    got = {expression}\nexcept BaseException as e:\n    pass\n"
    )


def _files(place):
    paths = [
        "/etc/passwd",
        "/etc/shadow",
        "/etc/hostname",
        "/proc/self/environ",
        "/proc/self/maps",
        "/proc/self/mem",
        "/proc/self/cmdline",
        "/proc/1/environ",
        "/proc/1/cmdline",
        f"/proc/{place.parent_pid}/environ",
        f"/proc/{place.parent_pid}/mem",
        f"/proc/{place.parent_pid}/maps",
        f"/proc/{place.parent_pid}/cmdline",
        "/proc/net/tcp",
        "/proc/kcore",
        "/proc/sys/kernel/hostname",
        "/sys/class/net/lo/address",
        "/dev/mem",
        "/dev/sda",
        "/dev/kmsg",
        "/root/.bashrc",
        str(place.secret_file),
        str(place.secret_file.parent / "x" / ".." / place.secret_file.name),
        "/context/../../../../../../.." + str(place.secret_file),
        "../" * 20 + str(place.secret_file)[1:],
        "/proc/self/root" + str(place.secret_file),
        "/proc/self/cwd/../../../.." + str(place.secret_file),
        "file://" + str(place.secret_file),
    ]
    for path in paths:
        yield f"read {path[:60]}", _attempt(f"open({path!r}, 'rb').read(64) or None")
    yield "read by os.open", _attempt(f"os.read(os.open({str(place.secret_file)!r}, os.O_RDONLY), 9)", "import os")
    yield "read by io.FileIO", _attempt(f"io.FileIO({str(place.secret_file)!r}).read()", "import io")
    yield "read by pathlib", _attempt(f"pathlib.Path({str(place.secret_file)!r}).read_text()", "import pathlib")
    yield "read by mmap", _attempt(f"mmap.mmap(open({str(place.secret_file)!r}).fileno(), 0)[:]", "import mmap")
    yield "read by linecache", _attempt(f"linecache.getlines({str(place.secret_file)!r}) or None", "import linecache")
    yield "read by runpy", _attempt(f"runpy.run_path({str(place.secret_file)!r})", "import runpy")
    yield (
        "read by sqlite",
        _attempt(
            f"sqlite3.connect('file:{place.secret_file}?mode=ro', uri=True).execute('select * from sqlite_master').fetchall() or None",
            "import sqlite3",
        ),
    )
    yield "read by O_PATH", _attempt(f"os.read(os.open({str(place.secret_file)!r}, 0o10000000), 9)", "import os")
    yield "list a folder", _attempt(f"os.listdir({str(place.secret_file.parent)!r}) or None", "import os")
    yield "list /", _attempt("os.listdir('/') or None", "import os")
    yield "list /tmp", _attempt("os.listdir('/tmp') or None", "import os")
    yield "walk home", _attempt("[f for f in os.walk('/root')] or None", "import os")
    yield "glob", _attempt(f"glob.glob({str(place.secret_file.parent) + '/*'!r}) or None", "import glob")
    yield (
        "symlink then read",
        _attempt(
            f"(os.symlink({str(place.secret_file)!r}, '/tmp/pylon-link'), open('/tmp/pylon-link').read())[1]",
            "import os",
        ),
    )
    yield "hard link", _attempt(f"os.link({str(place.secret_file)!r}, '/tmp/pylon-hard') or True", "import os")
    yield (
        "inherited descriptors",
        _attempt(
            "[d for d in (readable(n) for n in range(3, 64)) if d and b'horse' in d] or None",
            """
        import os
        def readable(n):
            try:
                return os.pread(n, 64, 0)
            except OSError:
                return None
        """,
        ),
    )


def _writes(place):
    target = str(place.target)
    for name, act in {
        "write a file": f"open({target!r}, 'w').write('x')",
        "append to the secret": f"open({str(place.secret_file)!r}, 'a').write('x')",
        "os.open to create": f"os.open({target!r}, os.O_CREAT | os.O_WRONLY)",
        "mkdir": f"os.mkdir({target!r}) or True",
        "mkfifo": f"os.mkfifo({target!r}) or True",
        "mknod": f"os.mknod({target!r}) or True",
        "rename the secret": f"os.rename({str(place.secret_file)!r}, {target!r}) or True",
        "remove the secret": f"os.remove({str(place.secret_file)!r}) or True",
        "truncate the secret": f"os.truncate({str(place.secret_file)!r}, 0) or True",
        # WASI's chmod says yes and does nothing; the test looks at the file.
        "chmod the secret": f"os.chmod({str(place.secret_file)!r}, 0o777)",
        "chown the secret": f"os.chown({str(place.secret_file)!r}, 1, 1) or True",
        "utime of the secret": f"os.utime({str(place.secret_file)!r}, (1, 1)) or True",
        "xattr of the secret": f"os.setxattr({str(place.secret_file)!r}, 'user.x', b'1') or True",
        "tempfile": "tempfile.NamedTemporaryFile(delete=False).write(b'x')",
        "shutil.copy": f"shutil.copy({str(place.secret_file)!r}, {target!r})",
        "shutil.rmtree": f"shutil.rmtree({str(place.secret_file.parent)!r}) or (None if os.path.exists({target!r}) else None)",
        "write to the context": "open('/context/0', 'w').write('x')",
        "write a reply": "open('/replies/1', 'w').write('x')",
        "remove a reply": "os.remove('/replies/1') or True",
        "chroot": "os.chroot('/tmp') or True",
        "sqlite file": f"sqlite3.connect({target!r}).execute('create table a (b)') and True",
        "zipfile": f"zipfile.ZipFile({target!r}, 'w') and True",
        "shelve": f"shelve.open({target!r}) and True",
        "logging to a file": f"logging.FileHandler({target!r}) and True",
        # Sandboxes share it.
        "append to the standard library": "open(os.__file__, 'a').write('x')",
        "create in the standard library": "open(os.path.dirname(os.__file__) + '/pylon_evil.py', 'w').write('x')",
        "remove from the standard library": "os.remove(os.path.dirname(os.__file__) + '/this.py') or True",
        "rename the standard library": "os.rename(os.__file__, os.__file__ + 'x') or True",
        "truncate the standard library": "os.truncate(os.__file__, 0) or True",
        "link in the standard library": "os.symlink('/etc', os.path.dirname(os.__file__) + '/etc') or True",
    }.items():
        yield name, _attempt(act, _IMPORTS)


_IMPORTS = """
import os, socket, subprocess, signal, sys, tempfile, shutil, zipfile, shelve, logging
try:
    import sqlite3, ctypes, resource, multiprocessing, fcntl, select, asyncio, threading, pickle
    libc = ctypes.CDLL(None, use_errno=True)
    def call(*numbers):
        result = libc.syscall(*(ctypes.c_long(n) if isinstance(n, int) else n for n in numbers))
        if result < 0:
            raise OSError(ctypes.get_errno())
        return (result,)
except BaseException:
    pass
"""


def _network(place):
    port = place.port
    for name, act in {
        "tcp to the parent": f"socket.create_connection(('127.0.0.1', {port}), 2)",
        "tcp to the outside": "socket.create_connection(('1.1.1.1', 53), 1)",
        "tcp over ipv6": f"socket.create_connection(('::1', {port}), 1)",
        "bare tcp": f"(lambda s: (s.connect(('127.0.0.1', {port})), s)[1])(socket.socket())",
        "udp": f"(lambda s: s.sendto(b'x', ('127.0.0.1', {port})))(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))",
        "raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "packet socket": "socket.socket(17, socket.SOCK_RAW)",
        "netlink": "socket.socket(16, socket.SOCK_RAW)",
        "vsock": "(lambda s: (s.connect((2, 1)), s)[1])(socket.socket(40, socket.SOCK_STREAM))",
        "unix socket": f"(lambda s: (s.connect({str(place.unix_socket)!r}), s)[1])(socket.socket(socket.AF_UNIX))",
        "abstract unix socket": "(lambda s: (s.bind('\\0pylon'), s)[1])(socket.socket(socket.AF_UNIX))",
        "listen": "(lambda s: (s.bind(('127.0.0.1', 0)), s.listen(), s)[2])(socket.socket())",
        "resolve a name": "(lambda a: a if a[0].isdigit() else None)(socket.gethostbyname('one.one.one.one'))",
        "urllib": f"__import__('urllib.request').request.urlopen('http://127.0.0.1:{port}/', timeout=2).read()",
        "http.client": f"(lambda c: (c.request('GET', '/'), c.getresponse())[1])(__import__('http.client').client.HTTPConnection('127.0.0.1', {port}, timeout=2))",
        "asyncio connection": f"asyncio.run(asyncio.wait_for(asyncio.open_connection('127.0.0.1', {port}), 2))",
        "smtp": f"__import__('smtplib').SMTP('127.0.0.1', {port}, timeout=2)",
    }.items():
        yield name, _attempt(act, _IMPORTS)


def _processes(place):
    parent = place.parent_pid
    for name, act in {
        "fork": "os.fork() or os._exit(0)",
        "forkpty": "os.forkpty()",
        "vfork by number": "call(58)",
        "fork by number": "call(57)",
        "clone by number": "call(56, 17, 0, 0, 0, 0)",
        "clone a namespace": "call(56, 0x10000000 | 17, 0, 0, 0, 0)",
        "clone3": "call(435, 0, 0)",
        "system": "None if os.system('true') else True",
        "popen": "os.popen('echo x').read() or None",
        "subprocess": "subprocess.run(['/bin/echo', 'x'], capture_output=True).stdout",
        "subprocess shell": "subprocess.check_output('id', shell=True)",
        "execv": "os.execv('/bin/true', ['true'])",
        "execve by number": "call(59, ctypes.c_char_p(b'/bin/true'), 0, 0)",
        "execveat": "call(322, -100, ctypes.c_char_p(b'/bin/true'), 0, 0, 0)",
        "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
        "multiprocessing": "(lambda p: (p.start(), p.join(), p.exitcode))(multiprocessing.Process(target=print))",
        "process pool": "list(__import__('concurrent.futures').futures.ProcessPoolExecutor(1).map(len, ['x']))",
        "pty": "__import__('pty').spawn('/bin/true')",
        "kill the parent": f"os.kill({parent}, 9) or True",
        "interrupt the parent": f"os.kill({parent}, signal.SIGINT) or True",
        "ask for the parent": f"os.kill({parent}, 0) or True",
        "kill all": "os.kill(-1, 9) or True",
        "kill the group": "os.killpg(os.getpgrp(), 9) or True",
        "tgkill the parent": f"call(234, {parent}, {parent}, 10)",
        "tkill the parent": f"call(200, {parent}, 10)",
        "sigqueue": f"call(129, {parent}, 10, 0)",
        "pidfd": f"call(434, {parent}, 0)",
        "pidfd signal": f"signal.pidfd_send_signal(os.pidfd_open({parent}), 9) or True",
        "ptrace": f"call(101, 16, {parent}, 0, 0)",
        "ptrace me": "call(101, 0, 0, 0, 0)",
        "process_vm_readv": f"call(310, {parent}, 0, 0, 0, 0, 0)",
        "kcmp": f"call(312, {parent}, os.getpid(), 0, 0, 0)",
        "setpriority of the parent": f"os.setpriority(os.PRIO_PROCESS, {parent}, 10) or True",
        "limits of the parent": f"resource.prlimit({parent}, resource.RLIMIT_CPU, (1, 1)) or True",
        "affinity of the parent": f"os.sched_setaffinity({parent}, {{0}}) or True",
        "signals by F_SETOWN": f"fcntl.fcntl(0, fcntl.F_SETOWN, {parent}) or True",
        "waitid": "os.waitpid(-1, 0)",
    }.items():
        yield name, _attempt(act, _IMPORTS)


def _kernel(_place):
    for name, act in {
        "memfd": "os.memfd_create('x')",
        "memfd by number": "call(319, ctypes.c_char_p(b'x'), 0)",
        "memfd then exec": "os.execve(os.memfd_create('x'), ['x'], {})",
        "io_uring": "call(425, 1, ctypes.create_string_buffer(120))",
        "user namespace": "call(272, 0x10000000)",
        "mount namespace": "call(272, 0x00020000)",
        "setns": "call(308, 0, 0)",
        "mount": "call(165, 0, 0, 0, 0, 0)",
        "pivot_root": "call(155, 0, 0)",
        "open_tree": "call(428, -100, ctypes.c_char_p(b'/'), 1)",
        "bpf": "call(321, 0, 0, 0)",
        "perf events": "call(298, 0, 0, -1, -1, 0)",
        "userfaultfd": "call(323, 0)",
        "keyctl": "call(250, 0, 0, 0, 0, 0)",
        "add_key": "call(248, 0, 0, 0, 0, 0)",
        "seccomp again": "call(317, 1, 0, 0)",
        "prctl no dump": "call(157, 4, 1, 0, 0, 0)",
        "prctl seccomp off": "call(157, 22, 0, 0, 0, 0)",
        "prctl name": "call(157, 15, ctypes.c_char_p(b'x'), 0, 0, 0)",
        "landlock off": "call(446, -1, 0)",
        "capset": "call(126, 0, 0)",
        "setuid": "os.setuid(0) or True",
        "setgid": "os.setgid(0) or True",
        "setgroups": "os.setgroups([0]) or True",
        "setsid": "os.setsid() or True",
        "module": "call(313, 0, 0, 0)",
        "kexec": "call(246, 0, 0, 0, 0)",
        "reboot": "call(169, 0xfee1dead, 672274793, 0x1234567, 0)",
        "set the clock": "call(227, 0, ctypes.create_string_buffer(16))",
        "hostname": "socket.sethostname('x') or True",
        "swapon": "call(167, 0, 0)",
        "acct": "call(163, 0)",
        "personality": "call(135, 0x0040000)",
        "fanotify": "call(300, 0, 0)",
        "inotify": "call(294, 0)",
        "open by handle": "call(304, 0, 0, 0)",
        "name to handle": "call(303, -100, 0, 0, 0, 0)",
        "shmget": "call(29, 0, 4096, 0o1600)",
        "message queue": "call(68, 0, 0o1600)",
        "semaphores": "call(64, 0, 1, 0o1600)",
        "openat2": "call(437, -100, ctypes.c_char_p(b'/etc/passwd'), 0, 24)",
        "x32 call": "call(0x40000000 + 57)",
        "raise the limits": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1)) or True",
        "lock memory": "call(149, 0, 4096)",
        "executable memory": "__import__('mmap').mmap(-1, 4096, prot=7)",
        "executable copy of a file": (
            "__import__('mmap').mmap(os.open(os.__file__, os.O_RDONLY), 4096, flags=2, prot=7)"  # MAP_PRIVATE
        ),
        "make memory executable": "call(10, 0, 4096, 7)",
        "pkey_mprotect": "call(329, 0, 4096, 7, -1)",
        "terminal ioctl": "fcntl.ioctl(0, 0x5412, b'x')",
        "eventfd": "call(290, 0, 0)",
        "signalfd": "call(289, -1, 0, 8, 0)",
        "timer that signals": "call(222, 0, 0, 0)",
        "copy_file_range": "call(326, 0, 0, 1, 0, 10, 0)",
        "sendfile": "call(40, 1, 0, 0, 10)",
        "splice": "call(275, 0, 0, 1, 0, 10, 0)",
        "statfs": "os.statvfs('/')",
        "sysinfo of another": "call(103, 2, 0, 0)",
        "vhangup": "call(153)",
        "iopl": "call(172, 3)",
        "modify_ldt": "call(154, 0, 0, 0)",
    }.items():
        yield name, _attempt(act, _IMPORTS)


def _python(place):
    word = SECRET
    yield "environment", _attempt(f"{word!r} in str(dict(__import__('os').environ)) or None")
    yield (
        "environment's keys",
        _attempt("[k for k in __import__('os').environ if 'PYLON' in k or 'KEY' in k] or None"),
    )
    yield "arguments", _attempt(f"{word!r} in str(__import__('sys').argv) or None")
    yield (
        "objects in memory",
        _attempt(
            f"[o for o in gc.get_objects() if isinstance(o, str) and o == {word[::-1]!r}[::-1]] or None", "import gc"
        ),
    )
    yield (
        "frames",
        _attempt(
            "names or None",
            """
        import sys
        names = []
        frame = sys._getframe()
        while frame:
            names += [v for v in frame.f_locals.values() if isinstance(v, str) and v.startswith('correct' + '-horse')]
            frame = frame.f_back
        """,
        ),
    )
    yield (
        "modules with keys",
        _attempt(
            "[m for m in __import__('sys').modules if m.startswith(('pylon.nostr', 'pylon.money', 'pylon.node', 'coincurve'))] or None"
        ),
    )
    yield (
        "exception's frames",
        _attempt(
            "found or None",
            """
        found = []
        try:
            llm_query(object(), object())
        except BaseException as e:
            t = e.__traceback__
            while t:
                found += [v for v in t.tb_frame.f_globals if v in ('wallet', 'identity', 'nsec')]
                t = t.tb_next
        """,
        ),
    )
    yield (
        "a callback's globals",
        _attempt(
            "[n for n in getattr(type(llm_query).__call__, '__globals__', {}) if n in ('wallet', 'identity', 'asyncio_host')] or None"
        ),
    )
    yield "install a module", _attempt("__import__('pip')")
    yield "ctypes to libc", _attempt("libc.system(b'true') == 0 or None", _IMPORTS)
    yield (
        "ctypes open",
        _attempt(f"None if libc.open({str(place.secret_file).encode()!r}, 0) < 0 else True", _IMPORTS),
    )
    yield "ctypes dlopen", _attempt(f"ctypes.CDLL({str(place.secret_file)!r})", _IMPORTS)
    yield "unpickling", _attempt("None if pickle.loads(b\"cos\\nsystem\\n(S'true'\\ntR.\") else True", _IMPORTS)
    yield "marshal", _attempt("exec(__import__('marshal').loads(b'\\xe3'))")
    yield "audit hooks", _attempt("None if __import__('sys').addaudithook(lambda *a: None) is None else True")


def all_escapes(place):
    """Every program that must gain nothing."""
    for kind in (_files, _writes, _network, _processes, _kernel, _python):
        yield from kind(place)


# Programs that attack their own REPL or its host's patience. What they print or answer does not matter.
RUDE = [
    ("endless loop", "while True: pass"),
    (
        "endless loop that catches all",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ),
    ("endless C", "sum(range(10**14))"),
    ("endless regex", "import re; re.match('(a+)+$', 'a' * 40 + 'b')"),
    ("endless power", "x = 9 ** (9 ** 9)"),
    ("sleep", "import time; time.sleep(1000)"),
    ("a list for ever", "x = []\nwhile True: x.append(bytearray(2 ** 20))"),
    ("one huge bytes", "x = b'x' * 2 ** 40"),
    ("doubling text", "x = 'x'\nwhile True: x += x"),
    ("a dict for ever", "x = {}\nwhile True: x[len(x)] = 'x' * 10_000"),
    ("recursion", "def f(): return f()\nf()"),
    ("recursion without a limit", "import sys\nsys.setrecursionlimit(2 ** 31 - 1)\ndef f(): return [f()]\nf()"),
    ("deep expression", "x = eval('(' * 5000 + ')' * 5000)"),
    ("deep literal", "eval('[' * 10_000 + ']' * 10_000)"),
    ("deep tree", "eval('-' * 100_000 + '1')"),
    ("deep repr", "x = []\nfor _ in range(100_000): x = [x]\nrepr(x)"),
    ("deep del", "x = []\nfor _ in range(1_000_000): x = [x]\ndel x"),
    ("output flood", "while True: print('x' * 10_000)"),
    ("error flood", "import sys\nwhile True: sys.stderr.write('x' * 10_000)"),
    ("raw output flood", "import os\nwhile True: os.write(1, b'x' * 10_000)"),
    ("raw error flood", "import os\nwhile True: os.write(2, b'x\\n' * 5_000)"),
    ("huge error", "raise ValueError('x' * 50_000_000)"),
    ("error that fails to print", "class E(Exception):\n    def __str__(self): raise self\nraise E"),
    ("variables that fail to print", "class V:\n    def __repr__(self): raise SystemExit\nv = V()"),
    ("variables that never print", "class V:\n    def __repr__(self):\n        while True: pass\nv = V()"),
    ("many variables", "globals().update({f'v{n}': n for n in range(100_000)})"),
    ("huge names", "globals()['n' * 10_000_000] = 1"),
    ("names that are no text", "globals()[3] = 4"),
    ("huge answer", "answer['content'] = 'x' * 60_000_000; answer['ready'] = True"),
    ("answer that lies", "class A(dict):\n    def get(self, *a): return 1 / 0\nanswer = A()"),
    ("lone surrogates", "print('\\ud800'); answer['content'] = '\\udfff'; llm_query('\\ud800')"),
    ("nul bytes", "print('\\0' * 100_000)"),
    ("exit", "import sys; sys.exit(0)"),
    ("quit", "raise SystemExit('bye')"),
    ("hard exit", "import os; os._exit(0)"),
    ("abort", "import os; os.abort()"),
    ("crash", "import ctypes; ctypes.string_at(0)"),
    ("crash of the interpreter", "exec((lambda: 0).__code__.replace(co_code=b'\\x64\\xff' * 64, co_stacksize=0))"),
    ("stdout away", "import sys; sys.stdout = None"),
    ("stdout closed", "import sys; sys.stdout.close(); print(1)"),
    (
        "builtins away",
        "import builtins\nfor n in ('print', 'len', 'str', 'isinstance', 'open'): delattr(builtins, n)",
    ),
    ("calls away", "del llm_query, answer, context"),
    ("everything away", "globals().clear()"),
    ("modules away", "import sys; sys.modules.clear()"),
    ("descriptors closed", "import os; os.closerange(0, 64)"),
    (
        "thread flood",
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
    ),
    (
        "thread that runs on",
        "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f, daemon=True).start()",
    ),
    ("call flood", "while True: llm_query('x')"),
    ("one huge batch", "llm_query_batched(['x'] * 1_000_000)"),
    ("huge prompt", "llm_query('x' * 30_000_000)"),
    (
        "prompts that are no text",
        "llm_query(b'\\xff'); llm_query(None); llm_query({1: object()}); llm_query_batched([[], 3])",
    ),
    ("model that is no name", "llm_query('x', model='m' * 1_000_000)"),
    ("closed loop", "import asyncio\nasyncio.get_event_loop_policy().new_event_loop().stop()"),
    ("cell that sets a trace", "import sys\nsys.settrace(lambda *a: 1 / 0)"),
    (
        "import that never ends",
        "import sys\nclass F:\n    def find_spec(self, *a):\n        while True: pass\nsys.meta_path.insert(0, F())\nimport nothing_here",
    ),
    ("finaliser that never ends", "class D:\n    def __del__(self):\n        while True: pass\nd = D()\ndel d"),
    ("code of a megabyte", "x = [" + "1, " * 300_000 + "]"),
    ("source with nul", "x = 1\0"),
]

# Bytes put on the pipe to the host by code that has found it; `send(bytes)` is there.
FRAMES = [
    ("garbage", "send(b'\\xff' * 1000)"),
    ("huge length", "send(b'\\xff\\xff\\xff\\xff')"),
    ("half a frame", "send(b'\\0\\0\\1\\0{')"),
    ("no JSON", "frame(b'nonsense')"),
    ("no object", "frame(b'[1, 2]')"),
    ("no type", "frame(b'{}')"),
    ("unknown type", 'frame(b\'{"type": "exec", "code": "1"}\')'),
    ("wrong fields", 'frame(b\'{"type": "done", "stdout": 3}\')'),
    ("a pickle", "frame(b'cos\\nsystem\\n(S\\'touch /tmp/pylon-pickle\\'\\ntR.')"),
    ("deep JSON", "frame(b'[' * 200_000)"),
    ("deep object", "frame(b'{\"type\":' * 100_000)"),
    (
        "negative size",
        'frame(b\'{"type":"done","stdout":"","stderr":"","truncated":false,"error":null,"answer":null,"variables":[{"name":"x","type":"y","preview":"z","size":-1}]}\')',
    ),
    ("another kind of call", 'frame(b\'{"type":"calls","id":"c1","kind":"shell","prompts":["x"],"model":null}\')'),
    (
        "a call's id twice",
        'for _ in range(5): frame(b\'{"type":"calls","id":"c1","kind":"llm","prompts":["x"],"model":null}\')',
    ),
    (
        "calls over the limit",
        'frame(b\'{"type":"calls","id":"c9","kind":"llm","prompts":[\' + b\',\'.join([b\'"x"\'] * 100_000) + b\'],"model":null}\')',
    ),
    (
        "empty requests for ever",
        'while True: frame(b\'{"type":"calls","id":"c9","kind":"llm","prompts":[],"model":null}\')',
    ),
    ("ready again", 'frame(b\'{"type":"ready"}\')'),
    ("unable", 'frame(b\'{"type":"unable","text":"x","hint":"y"}\')'),
    ("a value unasked", 'frame(b\'{"type":"value","found":true,"text":"x"}\')'),
    (
        "done twice",
        'for _ in range(50): frame(b\'{"type":"done","stdout":"","stderr":"","truncated":false,"error":null,"answer":null,"variables":[]}\')',
    ),
]

FORGING = """
try:
    import _eryx
    def send(data): _eryx._eryx_report_output(0, data)
except ImportError:
    import os
    def send(data):
        for n in range(3, 20):
            try:
                os.write(n, data)
            except OSError:
                pass
def frame(body): send(len(body).to_bytes(4, "big") + body)
"""
