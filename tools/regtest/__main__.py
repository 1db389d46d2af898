"""The program of `scripts/regtest`: its options, its report, and its exit status."""

import argparse
import json
import shutil
import sys
import time

from pylon.errors import PylonError
from tools import regtest
from tools.regtest.stack import Regtest, default_folder


def main() -> int:
    """The entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/regtest", description=(regtest.__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument("--remove", action="store_true", help="with down: remove the folder, packages included")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    started = time.monotonic()
    stack = Regtest(default_folder(), lambda text: print(f"regtest: {text} …", file=sys.stderr))
    try:
        if arguments.action == "up":
            stack.up()
        elif arguments.action == "down":
            stack.down()
            if arguments.remove:
                shutil.rmtree(stack.folder, ignore_errors=True)
        report = stack.status()
    except PylonError as error:
        print(f"regtest: {error}\n  {error.hint}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps(report))
    else:
        running = ", ".join(name for name, runs in report["processes"].items() if runs) or "nothing"
        print(f"{running} running in {report['folder']} ({time.monotonic() - started:.1f} s)")
        for name, path in report["links"].items():
            print(f"  {name}: pylon wallet connect - < {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
