"""What a scenario's machine is at its end, and the file that says what it must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import v86lab as lab
from v86lab.protocol import HashState

FILE = Path(__file__).with_name("hashes.json")
SHORT = 12  # hex digits of a section's hash, which only says where to look

Outcome = dict[str, Any]


def outcome(vm: lab.Machine) -> Outcome:
    """Its hash, how far it has come, and short hashes of its parts."""
    reply = vm._session.call(HashState, allow=60.0).value
    sections = {name: digest[:SHORT] for name, digest in reply["sections"].items()}
    return {"hash": reply["hash"], "instructions": vm.instructions, "clock": vm.clock, "sections": sections}


def expected() -> dict[str, Outcome]:
    known: dict[str, Outcome] = json.loads(FILE.read_text("utf-8"))["scenarios"]
    return known


def write(outcomes: dict[str, Outcome]) -> None:
    """Replace the file; a line for each scenario's parts."""
    plain = json.dumps({"abi": lab.versions()["abi"], "scenarios": outcomes}, indent=1, ensure_ascii=False)
    FILE.write_text(plain + "\n", "utf-8")


def compare(name: str, seen: Outcome, known: Outcome | None, where: str = "here") -> str | None:
    """What to tell somebody whose machine is another one; None if it is the same."""
    if seen == known:
        return None
    if known is None:
        return f"{name}: hashes.json does not know it. {_HOW}"
    moved = [key for key in ("instructions", "clock") if seen[key] != known[key]]
    values = [f"{key} is {seen[key]!r}, not {known[key]!r}" for key in moved]
    parts = [
        part
        for part in known["sections"] | seen["sections"]
        if seen["sections"].get(part) != known["sections"].get(part)
    ]
    return (
        f"{name}: the machine {where} is not the one of hashes.json.\n"
        f"  {'; '.join(values) or 'as many instructions and seconds'}\n"
        f"  parts that differ: {', '.join(parts) or 'none'}\n{_HOW}"
    )


_HOW = (
    "If machines were not meant to change, this is a defect: somebody's hashes and recordings no longer hold.\n"
    "If they were: raise ABI in v86lab/abi.py (with its release in RELEASES) and in js/src/core/protocol.js, make the\n"
    "start state anew (make start), and then the file:\n"
    "  python -m tests.conformance --update"
)
