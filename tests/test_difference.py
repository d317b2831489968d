"""Where two machines differ, told from descriptions as an engine makes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v86lab.difference import Difference, Entry, compare
from v86lab.errors import EngineError

INODE = "atime=1767225600 ctime=1767225600 fid=1 gid=0 major=0 minor=0 mode=0100644 mtime=1767225600 nlinks=1 size=6"
names = st.text("abc 019", max_size=4)
values = st.one_of(st.none(), st.integers(), st.text(max_size=100))
sections = st.fixed_dictionaries(
    {
        "name": names,
        "fields": st.dictionaries(names, values).map(lambda fields: [list(pair) for pair in fields.items()]),
        "blocks": st.dictionaries(names, st.text("0f", min_size=1)),
    }
)
descriptions = st.lists(sections, unique_by=lambda section: str(section["name"]), max_size=60).map(
    lambda some: {"version": 1, "sections": some}
)


def section(name: str, fields: dict[str, Any] | None = None, blocks: dict[str, str] | None = None) -> dict[str, Any]:
    return {"name": name, "fields": [[*pair] for pair in (fields or {}).items()], "blocks": blocks or {}}


def machine(*some: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "sections": list(some)}


@given(descriptions)
def test_a_machine_does_not_differ_from_itself(described: dict[str, Any]) -> None:
    again = json.loads(json.dumps(described))
    assert not compare(described, again)
    assert compare(described, again) == Difference()
    assert repr(compare(described, again)) == "no difference"


@given(descriptions, descriptions)
def test_the_same_places_differ_both_ways_round(here: dict[str, Any], there: dict[str, Any]) -> None:
    there_and_back = compare(here, there), compare(there, here)
    one, other = ({(entry.section, entry.place, entry.exact) for entry in found} for found in there_and_back)
    assert one == other
    assert len(repr(there_and_back[0]).splitlines()) <= 42
    assert max(map(len, repr(there_and_back[0]).splitlines())) < 200


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (section("cpu", {"eax": "1", "ebx": "2"}), section("cpu", {"eax": "3", "ebx": "4"}),
         "cpu: eax is 1 here, 3 there, and 1 more"),
        (section("rtc", {"update_interrupt": 0}), section("rtc", {"update_interrupt": None}),
         "rtc: update_interrupt is 0 here, nothing there"),
        (section("uart0", {"input.length": 0}), section("uart0", {"input.length": 1, "input[0]": 10}),
         "uart0: input.length is 0 here, 1 there, and 1 more"),
        (section("ram", {}, {"0x00002000": "aa"}), section("ram", {}, {"0x00001000": "bb", "0x00002000": "cc"}),
         "ram: 0x00001000 only there, and 1 more"),
        (section("disk hda", {}, {"sector 9": "aa"}), section("disk hda", {}, {"sector 10": "aa"}),
         "disk hda: sector 9 only here, and 1 more"),
        (section("9p", {"/etc/passwd": INODE}), section("9p", {"/etc/passwd": INODE.replace("0644", "0600")}),
         "9p: /etc/passwd is mode=0100644 mtime=1767225600 nlinks=1 size=6 here, "
         "mode=0100600 mtime=1767225600 nlinks=1 size=6 there"),
    ],
)  # fmt: skip
def test_the_first_difference_of_a_section_is_named(here: dict[str, Any], there: dict[str, Any], said: str) -> None:
    assert repr(compare(machine(here), machine(there))) == f"1 section differs:\n  {said}"


def test_a_device_that_only_one_machine_has_is_named() -> None:
    found = compare(machine(section("cpu")), machine(section("cpu"), section("acpi", {"status": 1})))
    assert repr(found) == "1 section differs:\n  acpi: only there"
    assert found.sections == ("acpi",)


def test_a_page_is_refined_to_its_first_byte() -> None:
    here, there = bytes(8192), bytes(0x1234) + b"\x5a" + bytes(8192 - 0x1235)
    found = compare(machine(section("ram")), machine(section("ram", {}, {"0x00001000": "ab"})))
    refined = found.refine(lambda start, end: here[start:end], lambda start, end: there[start:end])
    assert refined.entries == (Entry("ram", "0x00001234", "00", "5a"),)
    assert found.refine(lambda *_: b"", lambda *_: b"") == found


def test_a_description_of_another_release_is_refused() -> None:
    with pytest.raises(EngineError, match="expected descriptions of version 1, saw 2"):
        compare(machine(), {"version": 2, "sections": []})
