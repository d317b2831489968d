"""Assembling boot sectors with NASM, when this computer has it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from shutil import which

from v86lab import formats
from v86lab.errors import ImageError


def assemble(source: str, folder: str | os.PathLike[str] | None = None) -> bytes:
    """Assemble NASM source to a flat binary, with the `nasm` found on this computer.

    Parameters
    ----------
    source : str
    folder : path, optional
        Where ``%include`` and ``incbin`` look.

    Raises
    ------
    ImageError
        NASM is not installed, or does not accept the source; then the message is NASM's own.

    Examples
    --------
    >>> assemble("bits 16\\nhlt").hex()    # doctest: +SKIP
    'f4'
    """
    nasm = which("nasm")
    if nasm is None:
        raise ImageError(
            "cannot assemble this source",
            expected="the program nasm",
            seen="none on the PATH",
            hint="install it (apt install nasm, brew install nasm, winget install nasm), or give the code as bytes",
        )
    if re.fullmatch(r"\s*\S*\.(asm|nasm|s|bin|img)\s*", source, re.IGNORECASE):
        raise ImageError(
            "this str looks like a file name",
            expected="the source itself",
            seen=formats.quoted(source),
            hint=f"a file is named by a Path: images.boot_sector(pathlib.Path({source!r}))",
        )
    with tempfile.TemporaryDirectory(prefix="v86lab-") as temporary:
        file, binary = Path(temporary, "source.asm"), Path(temporary, "code.bin")
        file.write_text(source if source.endswith("\n") else source + "\n", encoding="utf-8", errors="surrogateescape")
        command = [nasm, "-f", "bin", "-o", str(binary), str(file)]
        if folder is not None:
            command[1:1] = ["-i", f"{Path(folder).resolve()}{os.sep}"]  # older releases join without a separator
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=60, cwd=folder, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ImageError("nasm could not assemble this source", expected="an answer", seen=str(error)) from error
        message = done.stderr.replace(str(file), "source.asm").strip()
        if done.returncode or not binary.exists():
            raise ImageError("nasm found an error in this source", seen="\n" + message)
        return binary.read_bytes()
