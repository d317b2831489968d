"""Run scenarios on a fresh machine each, and print what came out as JSON; or write hashes.json.

python -m tests.conformance NAME...      print their outcomes
python -m tests.conformance --update     run all, twice, and write the file
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import v86lab as lab

from .outcomes import Outcome, compare, outcome, write
from .scenarios import SAME, SCENARIOS


def run(name: str) -> Outcome:
    """The outcome of one on Node."""
    began = time.monotonic()
    with SCENARIOS[name](lambda what="linux", **options: lab.Machine(what, engine="node", **options)) as vm:
        found = outcome(vm)
    print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return found


def update() -> None:
    """Write the file, if all came out twice alike."""
    first, second = ({name: run(name) for name in SCENARIOS} for _ in range(2))
    differing = [said for name in SCENARIOS if (said := compare(name, second[name], first[name], "of a second run"))]
    differing += [f"{group} must be the same" for group in SAME if len({first[name]["hash"] for name in group}) > 1]
    if differing:
        sys.exit("nothing was written:\n" + "\n".join(differing))
    write(first)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description="run conformance scenarios")
    parser.add_argument("names", nargs="*", choices=[*SCENARIOS, []], help="scenarios; none: all")
    parser.add_argument("--update", action="store_true", help="write hashes.json")
    arguments = parser.parse_args()
    if arguments.update:
        update()
    else:
        print(json.dumps({name: run(name) for name in arguments.names or SCENARIOS}))


if __name__ == "__main__":
    main()
