"""Copy the course's notebooks to ./v86lab-notebooks and open JupyterLab on the first.

A notebook that is there and differs from the course's is the student's, and is never overwritten. Arguments after --
go to JupyterLab, as in ``v86lab lab -- --no-browser --port 9999``; it listens on this computer only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from v86lab.errors import EngineError, ImageError, V86LabError

FOLDER = "v86lab-notebooks"


def add(parser: argparse.ArgumentParser) -> None:
    parser.usage = "v86lab lab [-h] [-- JUPYTERLAB-ARGUMENT ...]"
    parser.set_defaults(takes_rest=True)


def main(options: argparse.Namespace) -> int:
    if find_spec("jupyterlab") is None:
        raise V86LabError("JupyterLab is not installed", hint='pip install "v86lab[lab]"')
    folder = Path(FOLDER)
    for name, what in copy_course(folder):
        print(f"{folder / name}: {what}", flush=True)
    first = min(path.name for path in course())
    return _become([sys.executable, "-m", "jupyterlab", str(folder / first), "--ip=127.0.0.1", *options.rest])


def course() -> list[Path]:
    """The course's notebooks: a wheel carries them in the package, a clone has them beside it.

    Examples
    --------
    >>> course()[0].name
    '01_first_boot.ipynb'
    """
    package = Path(str(files("v86lab")))
    for folder in (package / "notebooks", package.parent / "notebooks"):
        found = sorted(folder.glob("*.ipynb"))
        if found:
            return found
    raise EngineError(
        "this installation of v86lab is damaged",
        expected=f"notebooks in {package / 'notebooks'}",
        seen="none",
        hint="pip install --force-reinstall --no-deps v86lab",
    )


def copy_course(folder: Path) -> Iterator[tuple[str, str]]:
    """Have a copy of each notebook in a folder; gives each name and what was done.

    Raises
    ------
    ImageError
        The folder cannot be written to.
    """
    try:
        folder.mkdir(exist_ok=True)
        for source in course():
            target, data = folder / source.name, source.read_bytes()
            try:
                with target.open("xb") as file:
                    file.write(data)
                yield source.name, "copied"
            except FileExistsError:
                same = target.read_bytes() == data
                yield source.name, "as in the course" if same else "kept as you left it; rename it to get the course's"
    except OSError as error:
        raise ImageError(
            f"cannot copy the notebooks to {folder.absolute()}",
            expected="a folder one may write to",
            seen=error.strerror or str(error),
            hint="change to a folder of your own and try again",
        ) from error


def _become(command: list[str]) -> int:
    """Go on as another program: the one that signals and Ctrl-C are meant for."""
    if sys.platform != "win32":
        os.execv(command[0], command)
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # it heard the same Ctrl-C, and asks whether to stop
                continue
