"""The guest's modules as one program for the wasm sandbox, compiled once and kept as bytecode.

The interpreter in WebAssembly takes longer to compile them than to start. The bytecode is made in a sandbox that runs
nothing but our own code, and is loaded only inside of a sandbox.
"""

import base64
import contextlib
import hashlib
from pathlib import Path

import eryx

from pylon.files import write_whole
from pylon.rlm.repl import guest

_PACKAGE = "pylon_guest"
_DIGEST_BYTES = 32
# A program that prints the bytecode of every module.
_COMPILER = """
import base64, marshal
codes = {{name: compile(text, "<pylon " + name + ">", "exec") for name, (text, _) in {sources!r}.items()}}
print(base64.b64encode(marshal.dumps(codes)).decode())
"""
# A program that imports the modules from bytecode. Its finder has no base class, as importlib.abc takes long to load.
_LOADER = """
import binascii, importlib.machinery, marshal, sys
class _Guest:
    packages = {packages!r}
    codes = marshal.loads(binascii.a2b_base64({bytecode!r}))
    def find_spec(self, name, path=None, target=None):
        if name in self.codes:
            return importlib.machinery.ModuleSpec(name, self, origin=name, is_package=name in self.packages)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        module.__file__ = "<pylon " + module.__name__ + ">"
        exec(self.codes[module.__name__], module.__dict__)
sys.meta_path.append(_Guest())
from {package}.wasm import main
main()
"""

type Sources = dict[str, tuple[bytes, bool]]


def program(folder: Path) -> str:
    """The source of a program that loads the guest's modules and runs `wasm.main`.

    `folder` is where their bytecode is kept.
    """
    sources = _sources()
    path = folder / "guest.bytecode"
    bytecode = _kept(path, sources)
    if bytecode is None:
        bytecode = _compiled(sources)
        # If it cannot be written, each start compiles anew.
        with contextlib.suppress(OSError):
            write_whole(path, _digest(sources, bytecode) + bytecode)
    packages = {name for name, (_, is_package) in sources.items() if is_package}
    return _LOADER.format(packages=packages, bytecode=base64.b64encode(bytecode).decode(), package=_PACKAGE)


def _sources() -> Sources:
    """The text of each module of the guest by its name, and whether it is a package."""
    root = Path(guest.__file__).parent
    return {
        ".".join((_PACKAGE, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__"): (
            path.read_bytes(),
            path.name == "__init__.py",
        )
        for path in sorted(root.rglob("*.py"))
    }


def _compiled(sources: Sources) -> bytes:
    result = eryx.Sandbox().execute(_COMPILER.format(sources=sources))
    return base64.b64decode(result.stdout)


def _kept(path: Path, sources: Sources) -> bytes | None:
    """The bytecode that is kept in a file; None unless it is complete, and made of these sources for this version."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, bytecode = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return bytecode if digest == _digest(sources, bytecode) else None


def _digest(sources: Sources, bytecode: bytes) -> bytes:
    digest = hashlib.sha256(eryx.__version__.encode())
    for name, (text, _) in sources.items():
        digest.update(f"{name} {len(text)} ".encode() + text)
    digest.update(bytecode)
    return digest.digest()
