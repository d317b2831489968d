from __future__ import annotations

import dataclasses
import io
import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v86lab import abi, rootfs, v86file
from v86lab.errors import ImageError, StoreError
from v86lab.image import Disk, Image
from v86lab.rootfs import ninep
from v86lab.store import Store

MIB = 1 << 20
A, B, C, D = (letter * 64 for letter in "abcd")


def bare(**changes: Any) -> Image:
    values: dict[str, Any] = {"name": "bare", "memory": 128 * MIB, "video_memory": 8 * MIB, "bios": A, "vga_bios": B}
    return Image(**(values | changes))


DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
FLOPPIES = st.none() | st.builds(Disk, DIGESTS, st.sampled_from([1474560, 737280]))
CDS = st.none() | st.builds(Disk, DIGESTS, st.integers(1, 1 << 20).map(lambda n: n * 2048))
HARD_DISKS = st.none() | st.builds(Disk, DIGESTS, st.integers(1, 1 << 30).map(lambda n: n * 512))
PRINTABLE = st.text(min_size=1, max_size=200).filter(str.isprintable)


@st.composite
def images(draw: st.DrawFn) -> Image:
    agent = draw(st.booleans())
    hda = draw(HARD_DISKS)
    start: dict[str, str] = draw(st.sampled_from([{}, {"kernel": C}, {"multiboot": C}]))
    with_initrd: bool = draw(st.booleans())
    if start and with_initrd:
        start = start | {"initrd": D, "cmdline": draw(st.text(st.characters(min_codepoint=32, max_codepoint=126)))}
    return bare(
        name=draw(PRINTABLE),
        memory=draw(st.integers(513, 16383)) * 131072,
        video_memory=1 << draw(st.integers(19, 28)),
        bios=draw(DIGESTS),
        vga_bios=draw(DIGESTS),
        **start,
        fda=draw(FLOPPIES),
        fdb=draw(FLOPPIES),
        hda=hda,
        hdb=draw(HARD_DISKS) if hda else None,
        cdrom=draw(CDS),
        boot_order=tuple(draw(st.permutations(["floppy", "disk", "cdrom"]))[: draw(st.integers(1, 3))]),
        acpi=draw(st.booleans()),
        uarts=draw(st.integers(1, 4)),
        consoles=draw(st.integers(2 if agent else 0, 4)),
        share=draw(st.none() | DIGESTS),
        agent=agent,
        resume=agent and draw(st.booleans()),
        epoch=draw(st.integers(0, 3155759999)),
        mips=draw(st.integers(1, 10_000)),
        jit=draw(st.booleans()),
    )


# ---- a value ----


@given(images())
def test_an_image_comes_back_from_its_json_with_the_same_digest(image: Image) -> None:
    copy = Image.from_json(json.loads(json.dumps(image.to_json())))
    assert copy == image and hash(copy) == hash(image) and copy.digest == image.digest
    assert Image.from_json(json.loads(image.canonical_json())) == image
    assert image.canonical_json().isascii()


@given(images(), images())
def test_equal_descriptions_and_equal_digests_are_the_same_thing(one: Image, other: Image) -> None:
    assert (one == other) == (one.digest == other.digest)


def test_the_digest_of_a_description_is_the_same_on_every_computer() -> None:
    image = bare(kernel=C, cmdline="quiet", hda=Disk(D, 512))
    assert image.canonical_json() == (
        b'{"abi":2,"acpi":false,"agent":false,"bios":"' + A.encode() + b'","boot_order":["floppy","disk","cdrom"],'
        b'"cdrom":null,"cmdline":"quiet","consoles":0,"epoch":1767225600,"fda":null,"fdb":null,"format":"v86lab image",'
        b'"hda":{"digest":"' + D.encode() + b'","size":512},"hdb":null,"initrd":null,"jit":true,'
        b'"kernel":"' + C.encode() + b'","memory":134217728,"mips":100,"multiboot":null,"name":"bare","resume":false,'
        b'"share":null,"uarts":1,"version":2,"vga_bios":"' + B.encode() + b'","video_memory":8388608}'
    )
    assert image.digest == "50ac7b20edf933b679d0a96973d2ae060b195c8904778fcbb492323b3c3a9e44"


def test_an_image_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        bare().memory = 1  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(bare())) == bare()


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "printable"),
        ({"name": "x" * 201}, "200"),
        ({"name": 5}, "expected str"),
        ({"memory": "128 MiB"}, "expected int"),
        ({"memory": True}, "expected int"),
        ({"memory": 128 * MIB + 1}, "round"),
        ({"memory": 4096 * MIB}, "cannot hold"),
        ({"video_memory": 3 * MIB}, "power of two"),
        ({"bios": "abc"}, "sha256"),
        ({"bios": None}, "expected str"),
        ({"kernel": A.upper()}, "sha256"),
        ({"kernel": A + "\n"}, "sha256"),
        ({"share": "/home"}, "share.*sha256"),
        ({"kernel": C, "multiboot": C}, "one kernel"),
        ({"initrd": C}, "initrd goes with a kernel"),
        ({"cmdline": "quiet"}, "cmdline goes with a kernel"),
        ({"kernel": C, "cmdline": "caf\xe9"}, "printable ASCII"),
        ({"kernel": C, "initrd": C, "memory": 64 * MIB}, "64 MiB"),
        ({"hdb": Disk(C, 512)}, "without a first"),
        ({"hda": Disk(C, 513)}, "whole sectors of 512"),
        ({"cdrom": Disk(C, 512)}, "whole sectors of 2048"),
        ({"fda": Disk(C, 512)}, "floppy's size"),
        ({"fdb": Disk(C, 10 * MIB)}, "floppy's size"),
        ({"hda": "disk.img"}, "expected Disk or nothing"),
        ({"boot_order": ()}, "boot order"),
        ({"boot_order": ("disk", "disk")}, "boot order"),
        ({"boot_order": ("network",)}, "boot order"),
        ({"epoch": -1}, "since 1970, from 0"),
        ({"epoch": 3155760000}, "the end of 2069"),
        ({"epoch": 0.5}, "expected int"),
        ({"epoch": True}, "expected int"),
        ({"mips": 0}, "mips.*1 to 10000"),
        ({"mips": 10_001}, "mips.*1 to 10000"),
        ({"mips": 10**400}, "mips.*1 to 10000"),
        ({"mips": 99.5}, "expected int"),
        ({"jit": 1}, "expected bool"),
        ({"boot_order": "disk"}, "expected tuple"),
        ({"boot_order": (5,)}, "boot order"),
        ({"uarts": 0}, "serial ports"),
        ({"uarts": 5}, "serial ports"),
        ({"consoles": 5}, "virtio consoles"),
        ({"consoles": -1}, "virtio consoles"),
        ({"agent": True, "consoles": 1}, "hvc1"),
        ({"agent": 1}, "expected bool"),
        ({"resume": True}, "needs the agent"),
        ({"acpi": "yes"}, "expected bool"),
    ],
)
def test_a_description_of_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        bare(**changes)
    assert caught.value.expected and caught.value.seen


@pytest.mark.parametrize("values", [("abc", 512), (A, 0), (A, -512), (A, True), (A, "512"), (None, 512), (A, 1 << 40)])
def test_a_disk_is_a_digest_and_a_size(values: Any) -> None:
    with pytest.raises(ImageError):
        Disk(*values)


# ---- what it refers to ----


def shared(files: Mapping[str, bytes | str], store: Store) -> str:
    return ninep.write(rootfs.of(files), store)


def test_all_blobs_are_named_and_those_of_the_share_when_the_store_is_given(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tree = shared({"a": b"one", "d/b": b"two"}, store)
    image = bare(kernel=C, initrd=D, fda=Disk("1" * 64, 1474560), fdb=Disk("2" * 64, 1474560), share=tree)
    image = dataclasses.replace(image, hda=Disk("3" * 64, 512), hdb=Disk("4" * 64, 512), cdrom=Disk("5" * 64, 2048))
    assert image.digests() == {A, B, C, D, tree, *(digit * 64 for digit in "12345")}
    assert image.digests(store) - image.digests() == {store.put(b"one"), store.put(b"two")}
    assert bare(multiboot=C).digests() == {A, B, C}


# ---- files ----


def kept(store: Store, **changes: Any) -> Image:
    return bare(bios=store.put(b"bios"), vga_bios=store.put(b"vga"), **changes)


def test_a_saved_image_loads_into_another_store_with_all_its_blobs(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    image = kept(store, share=shared({"a": b"shared"}, store))
    path = tmp_path / "caf\xe9.v86"
    image.save(path, store)
    store.put(b"of no use")
    assert Image.load(path, other) == image == Image.load(str(path), other)
    assert set(other.digests()) == image.digests(store) == image.digests(other)


def test_a_file_that_is_there_keeps_nothing_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    image = kept(store)
    image.save(tmp_path / "image.v86", store)
    assert store.pins() == []
    store.gc(older_than=-1)
    assert set(store.digests()) == set()
    assert Image.load(tmp_path / "image.v86", store) == image
    assert set(store.digests()) == image.digests() and store.pins() == []


def test_saving_replaces_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    path = tmp_path / "folder" / "image.v86"
    path.parent.mkdir()
    kept(store).save(path, store)
    kept(store, uarts=2).save(path, store)
    assert Image.load(path, store).uarts == 2 and [p.name for p in path.parent.iterdir()] == ["image.v86"]


def test_an_image_whose_bytes_are_missing_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        bare().save(tmp_path / "image.v86", Store(tmp_path / "store"))
    assert not (tmp_path / "image.v86").exists()


def test_a_place_that_cannot_be_written_is_an_error_of_the_caller(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for path in (tmp_path / "no" / "such" / "folder.v86", tmp_path, str(tmp_path) + "\0"):
        with pytest.raises(ImageError, match="cannot save"):
            kept(store).save(path, store)


def file_of(store: Store, kind: str, plain: Mapping[str, Any], digests: Iterable[str]) -> io.BytesIO:
    file = io.BytesIO()
    v86file.write(file, kind, plain, digests, store)
    file.seek(0)
    return file


def test_a_file_must_hold_what_its_image_refers_to_and_nothing_else(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    image = kept(store, share=shared({"a": b"one", "b": b"two"}, store))
    stray, digests, one = store.put(b"stray"), image.digests(store), store.put(b"one")
    disk = dataclasses.replace(image, hda=Disk(store.put(bytes(512)), 1024))
    for described, held, message in (
        (image, digests - {image.bios}, f"not whole: expected blob {image.bios[:12]}…, saw none"),
        (image, digests - {image.share}, "not whole: expected blob .*, saw none"),
        (image, digests - {one}, "not whole"),
        (image, digests | {stray}, "not whole"),
        (disk, disk.digests(store), "not whole: expected blob .* of 1024 bytes, saw 512 bytes"),
    ):
        with pytest.raises(ImageError, match=message):
            Image.load(file_of(store, "image", described.to_json(), held), other)
    assert Image.load(file_of(store, "image", image.to_json(), digests), other) == image


def test_a_file_of_another_kind_is_no_image(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(ImageError, match=r'expected the kind "image", saw \'snapshot\'.*pip install --upgrade'):
        Image.load(file_of(store, "snapshot", {}, []), store)


def test_a_description_in_a_file_is_checked_before_any_blob_is_unpacked(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    image = kept(store)
    for changes, message in (({"memory": 5}, "memory"), ({"abi": abi.ABI + 1}, "another machine ABI")):
        with pytest.raises(ImageError, match=message):
            Image.load(file_of(store, "image", image.to_json() | changes, image.digests()), other)
    assert set(other.digests()) == set()


def written(**changes: Any) -> dict[str, Any]:
    return bare().to_json() | changes


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in bare().to_json().items() if name != key}


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ([], "no saved image"),
        (None, "no saved image"),
        ({"format": "tar"}, "no saved image"),
        (written(version=3), "expected version 1 or 2, saw version 3.*pip install --upgrade"),
        (written(version=0), "expected version 1 or 2, saw version 0"),
        (written(abi=abi.ABI + 1), "machine ABI 2, which is installed, saw machine ABI 3.*pip install --upgrade"),
        (written(abi="1"), "abi: expected int"),
        (written(abi=True), "abi: expected int"),
        (without("abi"), "no abi"),
        (without("jit"), "no jit"),
        (written(version=True), "version"),
        (written(version=[[[[]]]]), "version"),
        (written(bios=None), "bios"),
        (written(memory=1e8), "expected int"),
        (written(memory=float("nan")), "expected int"),
        (written(path="/etc/passwd"), "keys of no meaning.*path"),
        (written(hda="/dev/sda"), "digest and size"),
        (written(hda={"digest": A}), "no size"),
        (written(hda={"digest": A, "size": 512, "path": "/dev/sda"}), "keys of no meaning"),
        (written(hda={"digest": [A], "size": 512}), "sha256"),
        (written(boot_order="disk"), "list of names"),
        (written(boot_order=[["disk"]]), "list of names"),
        (written(name="a\ud800b"), "printable"),
        (without("bios"), "no bios"),
    ],
)
def test_what_is_no_description_of_ours_is_refused(plain: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        Image.from_json(plain)
    assert len(str(caught.value)) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(A),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(bare().to_json())), JSON, min_size=1, max_size=3))
def test_hostile_values_make_an_image_or_an_image_error(changes: dict[str, Any]) -> None:
    try:
        Image.from_json(bare().to_json() | changes)
    except ImageError as error:
        assert str(error)


def test_an_image_of_the_first_version_has_the_clock_that_all_had() -> None:
    plain = bare(kernel=C).to_json() | {"version": 1}
    for key in ("abi", "epoch", "mips", "jit"):
        del plain[key]
    assert Image.from_json(plain) == bare(kernel=C)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.v86", tmp_path, str(tmp_path) + "\0"):
        with pytest.raises(ImageError, match="cannot read the file '"):
            Image.load(path)
