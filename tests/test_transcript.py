from __future__ import annotations

import threading

from v86lab.transcript import LIMIT, Transcript


def test_what_was_shown_is_kept_as_it_came_and_read_as_utf8() -> None:
    shown = Transcript()
    for part in (b"caf\xc3", b"\xa9 ", b"\xff\r\n"):
        shown.append(part)
    assert shown.data == b"caf\xc3\xa9 \xff\r\n"
    assert shown.text == "café \ufffd\r\n"
    assert shown.dropped == 0


def test_however_it_arrives_the_last_bytes_are_kept_and_every_other_one_is_counted() -> None:
    whole = b"".join(b"line %d\n" % n for n in range(300_000))
    for size in (999, 70_000, LIMIT - 1, LIMIT + LIMIT // 8 + 1, len(whole)):
        shown = Transcript()
        for at in range(0, len(whole), size):
            shown.append(whole[at : at + size])
            before = whole[: at + size]
            assert shown.dropped == max(0, len(before) - LIMIT)
            assert len(shown.data) == min(LIMIT, len(before))
        assert shown.data == whole[-LIMIT:]


def test_the_text_says_so_from_the_first_byte_that_is_missing() -> None:
    shown = Transcript()
    shown.append(b"x" * LIMIT)
    assert shown.text == "x" * LIMIT
    shown.append(b"y")
    assert shown.text == "[1 earlier bytes are not kept]\n" + "x" * (LIMIT - 1) + "y"


def test_memory_stays_bounded_while_a_guest_prints_for_ever() -> None:
    shown = Transcript()
    for _ in range(64):
        shown.append(bytes(LIMIT // 4))
        assert len(shown.since(0)[0]) <= LIMIT + LIMIT // 4


def test_reading_on_from_a_position_gives_each_byte_once() -> None:
    shown, read, position = Transcript(), b"", 0
    for n in range(1000):
        shown.append(b"%d," % n)
        if n % 7 == 0:
            data, position = shown.since(position)
            read += data
    data, end = shown.since(position)
    assert read + data == b"".join(b"%d," % n for n in range(1000))
    assert shown.since(end) == (b"", end)


def test_reading_on_after_more_than_is_kept_goes_on_with_what_there_is() -> None:
    shown = Transcript()
    shown.append(b"x" * (3 * LIMIT) + b"end")
    data, position = shown.since(10)
    assert position == 3 * LIMIT + 3
    assert len(data) >= LIMIT and data.endswith(b"xend")


def test_who_waits_for_more_is_woken_by_it() -> None:
    shown = Transcript()
    shown.append(b"$ ")
    got: list[tuple[bytes, int]] = []
    reader = threading.Thread(target=lambda: got.append(shown.since(2, timeout=60)))
    reader.start()
    shown.append(b"hello")
    reader.join()
    assert got == [(b"hello", 7)]


def test_bytes_from_several_threads_are_all_there() -> None:
    shown = Transcript()

    def show(digit: bytes) -> None:
        for _ in range(2000):
            shown.append(digit)

    threads = [threading.Thread(target=show, args=(b"%d" % n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(shown.data) == sorted(b"01234" * 2000)
