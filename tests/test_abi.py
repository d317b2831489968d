"""The machine's ABI: one number in both languages, and what to install when it is another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import v86lab as lab
from v86lab import abi
from v86lab.errors import ImageError

ROOT = Path(__file__).resolve().parent.parent


def test_both_languages_have_the_same_number() -> None:
    source = (ROOT / "js" / "src" / "core" / "protocol.js").read_text("utf-8")
    assert re.findall(r"^export const ABI = (\d+);$", source, re.MULTILINE) == [str(abi.ABI)]


def test_the_abi_of_this_installation_has_a_release() -> None:
    assert max(abi.RELEASES) == abi.ABI
    assert abi.release_hint(abi.ABI) == f"pip install 'v86lab=={abi.RELEASES[abi.ABI]}'"


def test_the_abi_that_is_installed_may_be_required() -> None:
    lab.require(abi=abi.ABI)


def test_an_older_abi_names_the_release_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "ABI", 3)
    monkeypatch.setattr(abi, "RELEASES", {1: "0.1", 2: "0.4", 3: "0.5"})
    with pytest.raises(ImageError) as caught:
        lab.require(abi=2)
    assert str(caught.value) == (
        "this notebook needs another machine ABI: expected machine ABI 3, which is installed, saw machine ABI 2. "
        "Hint: pip install 'v86lab==0.4'"
    )


@pytest.mark.parametrize("wanted", [abi.ABI + 1, 10**30])
def test_a_newer_abi_asks_for_an_upgrade(wanted: int) -> None:
    with pytest.raises(
        ImageError, match=r"does not know that machine ABI: expected one of 1 \(v86lab 0\.1\), 2"
    ) as caught:
        lab.require(abi=wanted)
    assert caught.value.hint == "a newer release may have it: pip install --upgrade v86lab"


@pytest.mark.parametrize("wanted", [0, -1, True, "1", 1.0, None, [1] * 1000])
def test_what_is_no_abi_is_an_error_that_tells_the_installed_one(wanted: int) -> None:
    with pytest.raises(ImageError, match="does not know that machine ABI") as caught:
        lab.require(abi=wanted)
    assert caught.value.hint is not None and caught.value.hint.endswith(f"installation: {abi.ABI}")
    assert len(str(caught.value)) < 400


def test_what_was_made_with_the_installed_abi_passes() -> None:
    abi.check("this recording", abi.ABI)
    with pytest.raises(ImageError, match="this recording needs another machine ABI"):
        abi.check("this recording", abi.ABI + 1)
