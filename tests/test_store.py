"""The Store with real processes, real kills and real write errors."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from v86lab.errors import (
    DamagedBlob,
    ImageError,
    MalformedDigest,
    StoreError,
    StoreFull,
    StoreReadOnly,
    UnknownDigest,
    V86LabError,
)
from v86lab.pins import Pin
from v86lab.shelf import STALE
from v86lab.store import CHUNK, GcReport, Store

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX processes and file modes")
ABSENT = "0" * 64


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home, shared=[])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob_file(home: Path, digest: str) -> Path:
    return home / "blobs" / digest[:2] / digest


def damage(path: Path, data: bytes = b"rotten") -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def python(code: str, *arguments: object, stdin: int | None = None) -> subprocess.Popen[str]:
    """Another process with the same package."""
    here = str(Path(__file__).resolve().parent.parent)
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {here!r})\n{code}", *map(str, arguments)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def leftovers(home: Path) -> list[Path]:
    return list((home / "tmp").iterdir()) if (home / "tmp").exists() else []


# --- bytes in, bytes out ---


class Pipe(io.RawIOBase):
    """A stream that cannot be rewound, gives odd amounts and remembers how much was asked for at once."""

    def __init__(self, data: bytes) -> None:
        self.data, self.largest = io.BytesIO(data), 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.largest = max(self.largest, size if size >= 0 else sys.maxsize)
        return self.data.read(min(size, 65537))


DATA = random.Random(1).randbytes(3 * CHUNK + 17)
SOURCES: dict[str, Callable[[bytes], bytes | bytearray | memoryview | BinaryIO]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "words": lambda data: memoryview(data + bytes(-len(data) % 4)).cast("I").cast("B")[: len(data)],
    "backwards": lambda data: memoryview(data[::-1])[::-1],
    "seekable": io.BytesIO,
    "pipe": lambda data: cast(BinaryIO, Pipe(data)),
}


BOTH = pytest.mark.parametrize("sync", [True, False])


@BOTH
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, len(DATA)])
def test_what_is_put_comes_back(store: Store, home: Path, kind: str, size: int, sync: bool) -> None:
    data = DATA[:size]
    for _ in range(2):
        digest = store.put(SOURCES[kind](data), sync=sync)
        assert digest == sha256(data)
        assert store.get(digest) == data
    with store.open(digest) as file:
        assert file.read() == data
    assert store.path(digest) == store.verify(digest) == blob_file(home, digest)
    assert store.size(digest) == size
    assert digest in store
    assert list(store.digests()) == [digest]
    assert leftovers(home) == []


@BOTH
@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_put_by_its_digest_is_checked_and_not_read_when_it_is_here(
    store: Store, home: Path, kind: str, sync: bool
) -> None:
    with pytest.raises(ImageError, match="not what it was said to be"):
        store.put(SOURCES[kind](DATA), ABSENT, sync=sync)
    assert list(store.digests()) == [] and leftovers(home) == []
    assert store.put(SOURCES[kind](DATA), sha256(DATA), sync=sync) == sha256(DATA)
    assert store.put(cast(BinaryIO, None), sha256(DATA)) == sha256(DATA)
    with pytest.raises(MalformedDigest):
        store.put(b"", "../x")


def test_a_stream_is_read_a_chunk_at_a_time_from_where_it_stands(store: Store) -> None:
    pipe = Pipe(DATA)
    assert store.put(cast(BinaryIO, pipe)) == sha256(DATA)
    assert 0 < pipe.largest <= CHUNK
    stream = io.BytesIO(b"skipped" + DATA)
    stream.seek(7)
    assert store.put(stream) == sha256(DATA)


def test_a_stream_that_fails_leaves_nothing_and_raises_its_own_error(store: Store, home: Path) -> None:
    class Broken(Pipe):
        def read(self, size: int = -1) -> bytes:
            if self.data.tell() > CHUNK:
                raise TimeoutError("the network went away")
            return super().read(size)

    with pytest.raises(TimeoutError, match="network went away"):
        store.put(cast(BinaryIO, Broken(DATA)))
    assert not list(store.digests()) and not leftovers(home)


@pytest.mark.parametrize("stream", [io.StringIO("text"), io.StringIO("")])
def test_a_text_stream_is_refused(store: Store, stream: io.StringIO) -> None:
    with pytest.raises(ImageError, match="open it binary"):
        store.put(cast(BinaryIO, stream))


@POSIX
def test_a_stream_that_would_block_is_refused_rather_than_cut_short(store: Store) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(reader, "rb", buffering=0) as stream, os.fdopen(writer, "wb"), pytest.raises(ImageError):
        store.put(cast(BinaryIO, stream))


def test_a_file_is_copied(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    digest = store.put_file(source)
    source.write_bytes(b"changed")
    assert store.get(digest) == DATA
    source.unlink()
    assert store.put_file(source, digest) == digest, "a blob that is here needs no source"


def test_a_file_that_is_not_what_it_was_said_to_be_is_refused(store: Store, tmp_path: Path, home: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    with pytest.raises(ImageError) as caught:
        store.put_file(source, ABSENT)
    assert ABSENT in str(caught.value) and sha256(DATA) in str(caught.value) and "Hint" in str(caught.value)
    assert not list(store.digests()) and not leftovers(home)
    assert store.put_file(source, sha256(DATA)) == sha256(DATA)


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_source_that_is_no_file_is_the_callers_error(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="cannot read"):
        store.put_file(tmp_path / name)


@POSIX
def test_runs_of_zeros_become_holes(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "disk"
    with source.open("wb") as file:
        file.write(b"boot")
        file.truncate(64 * CHUNK)
    digest = store.put_file(source)
    stat = store.path(digest).stat()
    assert stat.st_size == 64 * CHUNK
    assert stat.st_blocks * 512 < 8 * CHUNK
    assert hashlib.sha256(store.get(digest)).hexdigest() == digest


@POSIX
@BOTH
def test_blobs_cannot_be_written_to(store: Store, sync: bool) -> None:
    assert store.path(store.put(b"x", sync=sync)).stat().st_mode & 0o777 == 0o444


@BOTH
def test_a_blob_that_was_put_needs_no_second_hashing(store: Store, sync: bool) -> None:
    file = store.open_verified(store.put(b"hashed already", sync=sync))
    assert file is not None
    file.close()


@BOTH
def test_putting_an_existing_blob_writes_nothing_and_makes_it_young(store: Store, sync: bool) -> None:
    digest = store.put(DATA, sync=sync)
    age(store.path(digest), 100)
    before = store.path(digest).stat()
    store.put(DATA, sync=sync)
    assert store.path(digest).stat().st_mtime > before.st_mtime + 50
    store.put(io.BytesIO(DATA))
    assert store.path(digest).stat().st_ino == before.st_ino


@pytest.mark.parametrize("bad", ["", "abc", "A" * 64, "g" * 64, "0" * 63, "0" * 65, "../" + "0" * 61, "0" * 64 + "\n"])
def test_what_is_no_digest_is_named_as_such(store: Store, bad: str) -> None:
    for call in (store.get, store.open, store.open_verified, store.path, store.size, store.verify):
        with pytest.raises(MalformedDigest, match="64 hex digits"):
            call(bad)
    with pytest.raises(MalformedDigest):
        store.put_file("anything", bad)
    with pytest.raises(MalformedDigest):
        store.pin("p", [bad])
    assert bad not in store


def test_an_unknown_digest_is_named_as_such(store: Store, home: Path) -> None:
    for call in (store.get, store.open, store.path, store.size, store.verify):
        with pytest.raises(UnknownDigest) as caught:
            call(ABSENT)
        assert str(home) in str(caught.value) and "Hint" in str(caught.value)
    assert store.open_verified(ABSENT) is None
    assert ABSENT not in store
    assert None not in store
    assert not home.exists(), "looking writes nothing"


def test_every_error_is_a_store_error() -> None:
    for kind in (UnknownDigest, MalformedDigest, DamagedBlob, StoreFull, StoreReadOnly):
        assert issubclass(kind, StoreError) and issubclass(kind, V86LabError) and issubclass(kind, OSError)


def test_homes_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Store(tmp_path / "one", shared=[]).put(b"1"), Store(tmp_path / "two", shared=[]).put(b"2")
    monkeypatch.setenv("V86LAB_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("V86LAB_SHARED", os.pathsep.join([str(tmp_path / "one"), "", str(tmp_path / "two")]))
    store = Store()
    assert store.home == tmp_path / "own"
    assert (store.get(one), store.get(two)) == (b"1", b"2")
    monkeypatch.delenv("V86LAB_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store().home.name == "v86lab" or "v86lab" in str(Store().home)


# --- damage ---


def test_a_damaged_blob_is_set_aside_and_never_handed_out(home: Path) -> None:
    digest = Store(home, shared=[]).put(DATA)
    for rotten in (DATA[:-1], DATA[:-1] + b"!", b""):
        for call in (Store.get, Store.open, Store.verify):
            store = Store(home, shared=[])
            damage(blob_file(home, digest), rotten)
            with pytest.raises(DamagedBlob, match="damaged") as caught:
                call(store, digest)
            assert digest in str(caught.value) and "Hint" in str(caught.value)
            assert not blob_file(home, digest).exists()
            assert digest not in store
            with pytest.raises(UnknownDigest):
                store.get(digest)
            assert store.put(DATA) == digest
            assert store.get(digest) == DATA
    aside = list((home / "damaged").iterdir())
    assert len(aside) == 9 and {path.read_bytes() for path in aside} == {DATA[:-1], DATA[:-1] + b"!", b""}


def test_a_blob_that_changes_after_it_was_verified_is_hashed_again(store: Store, home: Path) -> None:
    digest = store.put(DATA)
    file = store.open_verified(digest)
    assert file is not None, "what this process wrote needs no hashing"
    file.close()
    damage(blob_file(home, digest), DATA[:-1] + b"!")
    assert store.open_verified(digest) is None
    with pytest.raises(DamagedBlob):
        store.open(digest)


def test_what_another_process_put_is_hashed_once(home: Path) -> None:
    digest = Store(home, shared=[]).put(DATA)
    store = Store(home, shared=[])
    assert store.open_verified(digest) is None
    store.verify(digest)
    store.put(DATA)  # makes it young: still the same bytes
    file = store.open_verified(digest)
    assert file is not None
    with file:
        assert file.read() == DATA


@BOTH
def test_putting_heals_a_blob_cut_short_by_somebody(store: Store, home: Path, sync: bool) -> None:
    digest = store.put(DATA, sync=sync)
    damage(blob_file(home, digest), DATA[:100])
    assert store.put(DATA, sync=sync) == digest
    assert store.get(digest) == DATA


# --- shared Stores ---


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    Store(tmp_path / "shared", shared=[]).put(b"shared")
    return tmp_path / "shared"


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_a_shared_store_is_read_and_never_written_to(home: Path, shared: Path) -> None:
    digest = sha256(b"shared")
    before = contents(shared)
    store = Store(home, shared=[shared])
    assert store.get(digest) == b"shared" and digest in store and store.size(digest) == 6
    with store.open(digest) as file:
        assert file.read() == b"shared"
    assert store.put(b"shared") == digest == store.put_file("not needed", digest)
    assert not home.exists(), "what a shared Store has is not copied"
    own = store.put(b"own")
    assert sorted(store.digests()) == sorted([digest, own])
    store.pin("p", [digest, own])
    store.gc(older_than=0)
    store.unpin("p")
    assert store.gc(older_than=0) == GcReport(1, 3)
    assert contents(shared) == before
    assert list(store.digests()) == [digest]


def test_damage_in_a_shared_store_can_be_healed_in_ones_own(home: Path, shared: Path) -> None:
    digest = sha256(b"shared")
    damage(blob_file(shared, digest))
    before = contents(shared)
    store = Store(home, shared=[shared])
    for _ in range(2):
        with pytest.raises(StoreError):
            store.get(digest)
    assert digest not in store
    assert store.put(b"shared") == digest
    assert Store(home, shared=[shared]).get(digest) == store.get(digest) == b"shared"
    assert contents(shared) == before


def test_a_sound_shared_blob_stands_in_for_a_damaged_one(home: Path, shared: Path) -> None:
    digest = Store(home, shared=[]).put(b"shared")
    for call in (Store.get, Store.verify):
        Store(home, shared=[]).put(b"shared")
        damage(blob_file(home, digest))
        assert call(Store(home, shared=[shared]), digest) in (b"shared", blob_file(shared, digest))
        assert not blob_file(home, digest).exists()


def test_pins_of_a_shared_store_are_seen(home: Path, shared: Path) -> None:
    digest = sha256(b"shared")
    Store(shared, shared=[]).pin("default", [digest], {"snapshot": digest})
    store = Store(home, shared=[shared])
    assert store.pinned("default") == Pin("default", (digest,), {"snapshot": digest})
    own = store.put(b"own")
    store.pin("default", [own])
    assert store.pinned("default") == Pin("default", (own,))
    assert store.pins() == [Pin("default", (own,))]
    store.unpin("default")
    assert store.pinned("default") == Pin("default", (digest,), {"snapshot": digest})


# --- pins and gc ---

NAMES = [
    "linux",
    "Linux",
    "LINUX",
    "a/b\\c",
    "..",
    "",
    "ü ☃",
    "x" * 500,
    "x" * 499 + "y",
    "%41",
    "A",
    'q"u*?<>|:',
    "nul\0",
]


def test_pins_have_any_name_and_keep_values(store: Store, home: Path) -> None:
    digest = store.put(b"x")
    for number, name in enumerate(NAMES):
        store.pin(name, [digest], {"n": number, "list": [None, True, "ü"]})
    assert [pin.name for pin in store.pins()] == sorted(NAMES)
    for number, name in enumerate(NAMES):
        assert store.pinned(name) == Pin(name, (digest,), {"n": number, "list": [None, True, "ü"]})
    files = [path.name for path in (home / "pins").iterdir()]
    assert len({name.lower() for name in files}) == len(NAMES), "names differ without regard to case"
    assert all(len(name) < 200 and name.isascii() for name in files)
    for name in NAMES:
        store.unpin(name)
        store.unpin(name)
    assert not store.pins() and not leftovers(home)
    assert store.pinned("linux") is None


def test_gc_keeps_what_pins_keep_and_what_is_young(store: Store) -> None:
    kept, young, old = (store.put(data) for data in (b"kept", b"young", b"old!"))
    store.pin("a", [kept, kept])
    for digest in (kept, old):
        age(store.path(digest), 90_000)
    assert store.gc() == GcReport(removed=1, bytes=4)
    assert sorted(store.digests()) == sorted([kept, young])
    assert store.gc(older_than=0) == GcReport(removed=1, bytes=5)
    store.unpin("a")
    assert store.gc(older_than=0) == GcReport(removed=1, bytes=4)
    assert list(store.digests()) == []


def test_putting_or_pinning_makes_a_blob_young(store: Store, tmp_path: Path) -> None:
    digests = [store.put(data) for data in (b"bytes", b"stream", b"known", b"pinned")]
    for digest in digests:
        age(store.path(digest), 90_000)
    store.put(b"bytes")
    store.put(io.BytesIO(b"stream"))
    store.put_file(tmp_path / "nothing", digests[2])
    store.pin("p", [digests[3]])
    store.unpin("p")
    assert store.gc() == GcReport(0, 0)


def test_a_pin_is_void_when_its_source_is_gone(store: Store, tmp_path: Path, home: Path) -> None:
    digest = store.put(b"x")
    source = tmp_path / "saved.json"
    source.write_text("{}")
    store.pin("saved", [digest], source=source)
    assert store.pinned("saved") == Pin("saved", (digest,), None, source)
    assert store.gc(older_than=0).removed == 0
    source.unlink()
    assert store.pinned("saved") is None and store.pins() == []
    assert store.gc(older_than=0) == GcReport(1, 1)
    assert list((home / "pins").iterdir()) == []


def test_a_pin_cannot_promise_what_is_not_there(store: Store) -> None:
    digest = store.put(b"x")
    store.pin("p", [digest], {"version": 1})
    with pytest.raises(UnknownDigest):
        store.pin("p", [digest, ABSENT])
    assert store.pinned("p") == Pin("p", (digest,), {"version": 1})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": "p"}', '{"name": "p", "keeps": ["x"], "value": null, "source": null}']
)
def test_gc_removes_nothing_while_a_pin_cannot_be_read(store: Store, home: Path, text: str) -> None:
    digest = store.put(b"x")
    store.pin("p", [digest])
    (pin,) = (home / "pins").iterdir()
    pin.write_text(text)
    for call in (store.gc, store.pins, lambda: store.pinned("p")):
        with pytest.raises(StoreError, match=r"not a pin.*Hint"):
            call()
    assert digest in store


def test_gc_sweeps_what_crashes_left_and_what_was_set_aside(store: Store, home: Path) -> None:
    digest = store.put(DATA)
    damage(store.path(digest))
    with pytest.raises(DamagedBlob):
        store.get(digest)
    stale, fresh = home / "tmp" / "stale", home / "tmp" / "fresh"
    for path in (stale, fresh):
        path.write_bytes(b"partial")
    age(stale, STALE + 60)
    age(next((home / "damaged").iterdir()), 90_000)
    assert store.gc() == GcReport(1, len(b"rotten"))
    assert leftovers(home) == [fresh] and list((home / "damaged").iterdir()) == []
    age(fresh, STALE + 60)
    Store(home)
    assert leftovers(home) == []


def test_gc_of_nothing_removes_nothing(store: Store, home: Path) -> None:
    assert store.gc() == GcReport(0, 0)
    assert not home.exists()


def test_gc_while_others_put_and_pin_loses_nothing_they_rely_on(home: Path) -> None:
    """Blobs are made old before they are put again and pinned, so that gc wants them all."""
    worker = """
import os, random, time
from v86lab.store import Store, UnknownDigest
store, seed = Store(sys.argv[1], shared=[]), int(sys.argv[2])
known = set()
for turn in range(60):
    for digest in known:
        try:
            os.utime(store.path(digest), (1, 1))
        except (FileNotFoundError, UnknownDigest):
            pass
    data = [bytes([seed, n]) * 3000 for n in random.sample(range(8), 3)]
    digests = [store.put(d) for d in data]
    known.update(digests)
    time.sleep(0.002)  # longer than gc looks
    store.pin(f"pin-{seed}", digests)
    time.sleep(0.002)
    assert [store.get(digest) for digest in digests] == data
"""
    collector = "from v86lab.store import Store\nwhile True: Store(sys.argv[1], shared=[]).gc(older_than=3600)"
    collectors = [python(collector, home) for _ in range(2)]
    try:
        for worker_process in [python(worker, home, seed) for seed in range(2)]:
            output(worker_process)
        assert [process.poll() for process in collectors] == [None, None]
    finally:
        for process in collectors:
            process.kill()
            process.communicate()


# --- many processes, and crashes ---


@BOTH
def test_processes_that_put_the_same_and_other_blobs_at_once_all_succeed(home: Path, sync: bool) -> None:
    code = """
import random
from v86lab.store import Store
store, seed = Store(sys.argv[1], shared=[]), int(sys.argv[2])
sys.stdin.readline()
for n in range(30):
    same = random.Random(n).randbytes(100_000)
    other = random.Random(1000 * seed + n).randbytes(50_000)
    for data in (same, other):
        digest = store.put(data, sync=sys.argv[3] == "True")
        assert store.get(digest) == data
        print(digest)
"""
    processes = [python(code, home, seed, sync, stdin=subprocess.PIPE) for seed in range(1, 6)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    digests = {line for process in processes for line in output(process).split()}
    store = Store(home, shared=[])
    assert set(store.digests()) == digests
    assert len(digests) == 30 + 5 * 30
    for digest in digests:
        store.verify(digest)
    assert leftovers(home) == []


@POSIX
@BOTH
def test_a_process_killed_while_it_puts_leaves_no_partial_blob(home: Path, sync: bool) -> None:
    code = """
import os
from v86lab.store import Store
store = Store(sys.argv[1], shared=[])
print("ready", flush=True)
while True:
    data = os.urandom(3_000_000)
    store.pin("last", [store.put(data, sync=sys.argv[2] == "True")], {"length": len(data)})
"""
    dice = random.Random(5)
    interrupted = 0
    for _ in range(20):
        process = python(code, home, sync)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0.0, 0.06))
        process.kill()
        process.communicate()
        interrupted += bool(leftovers(home))
        for path in leftovers(home):
            age(path, STALE + 60)
        store = Store(home, shared=[])
        assert leftovers(home) == []
        for digest in store.digests():
            assert len(store.get(digest)) == 3_000_000
        assert all(pin.value == {"length": 3_000_000} for pin in store.pins())
        assert store.get(store.put(b"later")) == b"later"
        store.gc(older_than=0)
    assert interrupted, "no kill met a put half done: the test proves nothing"


@POSIX
@pytest.mark.parametrize("source", ["bytes", "bytes that need no wait", "stream"])
def test_a_limit_on_file_sizes_is_a_full_store(home: Path, source: str) -> None:
    code = """
import io, resource
from v86lab.errors import StoreFull
from v86lab.store import Store
store = Store(sys.argv[1], shared=[])
kept = store.put(b"kept")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
for data in (b"x" * 4_000_000, bytes(4_000_000)):
    try:
        store.put(io.BytesIO(data) if sys.argv[2] == "stream" else data, sync=sys.argv[2] == "bytes")
    except StoreFull as error:
        print(error)
assert list(store.digests()) == [kept] and store.get(kept) == b"kept"
store.put(b"small")
"""
    lines = output(python(code, home, source)).splitlines()
    assert len(lines) == 2
    assert all(str(home) in line and "V86LAB_HOME" in line for line in lines)
    assert leftovers(home) == []


@POSIX
def test_a_full_disk_is_a_full_store(tmp_path: Path) -> None:
    """In a mount namespace of its own, on a file system of two megabytes."""
    code = """
import subprocess
from v86lab.errors import StoreFull
from v86lab.store import Store
home = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", home], check=True)
store = Store(home, shared=[])
kept = store.put(b"k" * 500_000)
try:
    store.put(bytes([1]) * 4_000_000)
except StoreFull as error:
    print(error)
assert list(store.digests()) == [kept] and len(store.get(kept)) == 500_000
assert not list((store.home / "tmp").iterdir())
store.pin("still", [store.put(b"room for this")])
"""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here; the limit on file sizes is tested all the same")
    here = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [unshare, "-rm", sys.executable, "-c", f"import sys; sys.path.insert(0, {here!r})\n{code}", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "No space left" in done.stdout and "V86LAB_HOME" in done.stdout


def test_a_home_that_is_a_file_reads_as_empty_and_cannot_be_put_to(tmp_path: Path, shared: Path) -> None:
    home = tmp_path / "file"
    home.write_text("not a folder")
    store = Store(home, shared=[shared])
    assert store.get(sha256(b"shared")) == b"shared"
    assert store.put(b"shared") == sha256(b"shared")
    with pytest.raises(UnknownDigest):
        store.get(ABSENT)
    assert store.pins() == [] and store.pinned("p") is None
    for write in (lambda: store.put(b"new"), lambda: store.put(b"new", sync=False), lambda: store.pin("p", [])):
        with pytest.raises(StoreReadOnly) as caught:
            write()
        assert str(home) in str(caught.value) and "V86LAB_HOME" in str(caught.value)
    assert home.read_text() == "not a folder"


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that other users can reach, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp" if os.getuid() == 0 else None))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@POSIX
def test_a_home_that_cannot_be_written_to_still_gives_what_it_has(elsewhere: Path) -> None:
    """In a forked child without root's rights: file modes do not bind root."""
    home = elsewhere / "home"
    store = Store(home, shared=[])
    digest = store.put(DATA)
    store.pin("p", [digest])
    rotten = store.put(b"will rot")
    damage(store.path(rotten))
    (home / "tmp" / "stale").write_text("stale")
    age(home / "tmp" / "stale", STALE + 60)
    for path in (home, *home.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = contents(home)

    def check() -> None:
        frozen = Store(home, shared=[])
        assert frozen.get(digest) == DATA
        assert frozen.verify(digest) == store.path(digest)
        assert frozen.put(DATA) == digest, "putting what is there is no writing"
        assert [pin.name for pin in frozen.pins()] == ["p"]
        for _ in range(2):
            with pytest.raises(StoreError):
                frozen.get(rotten)
        for write in (
            lambda: frozen.put(b"new"),
            lambda: frozen.pin("q", [digest]),
            lambda: frozen.unpin("p"),
            lambda: frozen.gc(older_than=-1),
        ):
            with pytest.raises(StoreReadOnly, match="V86LAB_HOME"):
                write()

    in_child_without_rights(check)
    assert contents(home) == before


def in_child_without_rights(check: Callable[[], None]) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            check()
            os.write(writer, b"fine")
        except BaseException as error:
            os.write(writer, repr(error).encode()[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        result = file.read()
    os.waitpid(child, 0)
    assert result == b"fine", result.decode()
