"""Blobs put many at a time."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from v86lab.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home", shared=[])


def test_blobs_are_there_when_the_batch_is_over_each_once(store: Store) -> None:
    with store.batch() as batch:
        digests = [batch.put(data) for data in (b"one", b"two", b"one", b"")]
    assert [store.get(digest) for digest in digests] == [b"one", b"two", b"one", b""]
    assert len(set(store.digests())) == 3
    assert list(store.home.glob("tmp/*")) == []
    assert all(not os.access(store.path(digest), os.W_OK) or os.geteuid() == 0 for digest in digests)


def test_what_is_put_by_a_batch_needs_no_second_hashing(store: Store) -> None:
    with store.batch() as batch:
        digest = batch.put(b"hashed already")
    file = store.open_verified(digest)
    assert file is not None
    file.close()


def test_a_batch_that_fails_leaves_nothing_half_made_and_what_had_appeared(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("v86lab.batch._MOST_FILES", 2)
    with pytest.raises(KeyError), store.batch() as batch:
        first = [batch.put(b"a"), batch.put(b"b")]
        last = batch.put(b"c")
        raise KeyError
    assert all(digest in store for digest in first) and last not in store
    assert list(store.home.glob("tmp/*")) == []


def test_a_second_try_goes_on_from_what_had_appeared(store: Store) -> None:
    with store.batch() as batch:
        digest = batch.put(b"there")
    before = store.path(digest).stat()
    with store.batch() as batch:
        assert batch.put(b"there") == digest
    after = store.path(digest).stat()
    assert before.st_ino == after.st_ino and after.st_mtime_ns >= before.st_mtime_ns


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on file sizes stands for a full disk")
def test_a_batch_that_finds_the_store_full_says_so(tmp_path: Path) -> None:
    script = """
import sys
from v86lab.errors import StoreFull
from v86lab.store import Store
store = Store(sys.argv[1], shared=[])
try:
    with store.batch() as batch:
        batch.put(b"x")
        batch.put(bytes(range(256)) * 100)
except StoreFull as error:
    print(error)
print(len(list((store.home / "tmp").iterdir())))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "home"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.stdout.splitlines()[0].startswith("cannot write to the Store") and done.stdout.splitlines()[1] == "0"
