"""Patterns that Python matches, in a real helper process: found, bounded in time, ended and replaced."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest

from v86lab import patterns as lab_patterns
from v86lab.errors import ImageError
from v86lab.searcher import Searcher

FOREVER = re.compile(r"(a+)+$")
TRAP = b"a" * 60 + b"!"


@pytest.fixture
def searcher() -> Iterator[Searcher]:
    with Searcher(limit=30) as searcher:
        yield searcher


def helpers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spans.py" in " ".join(child.cmdline())]


def test_what_depends_on_the_end_of_the_output_is_found_there(searcher: Searcher) -> None:
    prompt = lab_patterns.compile(re.compile(r"[#$] $"))
    assert searcher.search(prompt, b"# not yet") is None
    found = searcher.search(prompt, "é# not\n# ".encode())
    assert found is not None
    assert (found.start, found.end, found.before, found.matched) == (8, 10, "é# not\n".encode(), b"# ")
    assert found.match.re is prompt.items[0].regex
    assert found.match.span() == (7, 9)


def test_the_match_that_begins_earliest_wins_then_the_first_in_the_list(searcher: Searcher) -> None:
    mixed = lab_patterns.compile(["bc", re.compile(rb"abc\Z"), re.compile("a.")])
    found = searcher.search(mixed, b"\xffabc")
    assert found is not None
    assert (found.index, found.start, found.end) == (1, 1, 4)


def test_only_the_last_bytes_are_searched_and_their_first_is_context() -> None:
    with Searcher(limit=30, window=6) as searcher:
        start = lab_patterns.compile(re.compile(r"(?:^|\b)ab+(?!c)"))
        assert searcher.search(start, b"-ab------") is None
        assert searcher.search(start, b"..ab----") is None  # it would begin at the first byte kept
        assert searcher.search(start, b".xab----") is None
        assert searcher.search(start, b"..-ab---") is not None  # \b sees the first byte kept
        assert searcher.search(start, b"..xab---") is None
    with Searcher(limit=30, window=5) as searcher:  # cut inside a character
        found = searcher.search(lab_patterns.compile(re.compile(r".(?!x)")), "....€€€€".encode())
        assert found is not None
        assert (found.start, found.end, found.before) == (13, 16, "....€€€".encode())


def test_after_a_cut_the_output_has_no_start(searcher: Searcher) -> None:
    start = lab_patterns.compile(re.compile(r"\Aa$"))
    assert searcher.search(start, b"a") is not None
    assert searcher.search(start, b"a", cut=True) is None
    assert searcher.search(start, b"xa", cut=True) is None


def test_a_pattern_that_backtracks_for_ever_is_an_error_and_the_next_search_works() -> None:
    with Searcher(limit=0.3) as searcher:
        with pytest.raises(ImageError, match=r"\(a\+\)\+\$.* took more than 0.3 s on 61 bytes"):
            searcher.search(lab_patterns.compile(FOREVER), TRAP)
        assert helpers() == []
        searcher.limit = 30
        assert searcher.search(lab_patterns.compile(FOREVER), b"aaa") is not None


def test_a_match_of_the_engine_is_confirmed_in_the_helper_when_it_may_take_long() -> None:
    nested = lab_patterns.compile(re.compile(r"(?:(?:a+)+b|a)"))
    assert not nested.held
    with Searcher(limit=0.3) as searcher:
        assert searcher.confirm(nested, 0, b"-aab", 1, 4).matched == b"aab"
        with pytest.raises(ImageError, match="took more than"):
            searcher.confirm(nested, 0, TRAP, 0, 1)


def test_a_simple_match_is_confirmed_without_a_helper() -> None:
    with Searcher() as searcher:
        found = searcher.confirm(lab_patterns.compile([re.compile(r"(\w+)[#$] ")]), 0, b"\nroot# ", 1, 7)
        assert found.match.group(1) == "root"
        assert helpers() == []


def test_a_helper_that_was_killed_is_replaced(searcher: Searcher) -> None:
    end = lab_patterns.compile(re.compile("a$"))
    assert searcher.search(end, b"a") is not None
    (helper,) = helpers()
    helper.kill()
    psutil.wait_procs([helper])
    assert searcher.search(end, b"a") is not None


def test_several_threads_may_search(searcher: Searcher) -> None:
    wrong: list[int] = []

    def search(count: int) -> None:
        for _ in range(20):
            found = searcher.search(lab_patterns.compile(re.compile("b$")), b"a" * count + b"b")
            if found is None or found.start != count:
                wrong.append(count)

    threads = [threading.Thread(target=search, args=(count,)) for count in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_helper_outlives_the_searcher_or_its_process(searcher: Searcher) -> None:
    searcher.search(lab_patterns.compile(re.compile("a$")), b"a")
    (helper,) = helpers()
    searcher.close()
    assert not helper.is_running()
    script = (
        "import re; from v86lab import patterns; from v86lab.searcher import Searcher\n"
        "s = Searcher(limit=3); s.search(patterns.compile(re.compile('a$')), b'a'); print(s._helper.pid, flush=True)\n"
        f"s.search(patterns.compile(re.compile({FOREVER.pattern!r})), {TRAP!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert psutil.wait_procs([orphan], timeout=60)[1] == []
