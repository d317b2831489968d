"""What can go wrong, and whose fault it is.

One class per culprit: `ImageError` is the caller's input, `GuestError` the guest's behaviour, `EngineError` our own
side, `StoreError` the place where bytes live. Each error tells what happened and, where they are known, what was
expected, what was seen instead and what to do next; the parts stay available as attributes.
"""

from __future__ import annotations

from collections.abc import Mapping


class V86LabError(Exception):
    """Base of every error this package raises on purpose.

    Parameters
    ----------
    what : str
        What happened, in one clause.
    expected, seen : str, optional
        What should have been there, and what was.
    hint : str, optional
        What the reader can do about it.

    Examples
    --------
    >>> print(V86LabError("cannot use floppy.img", expected="at most 2880 KiB", seen="10 MiB", hint="use images.disk"))
    cannot use floppy.img: expected at most 2880 KiB, saw 10 MiB. Hint: use images.disk
    """

    def __init__(
        self, what: str, *, expected: str | None = None, seen: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.seen = seen
        self.hint = hint

    def __str__(self) -> str:
        clauses = []
        if self.expected is not None:
            clauses.append(f"expected {self.expected}")
        if self.seen is not None:
            clauses.append(f"saw {self.seen}")
        text = self.what + (": " + ", ".join(clauses) if clauses else "")
        return f"{text}. Hint: {self.hint}" if self.hint else text


class ImageError(V86LabError, ValueError):
    """The caller's input cannot be used: a file, a size, a name, a pattern, a description of a machine."""


class StoreError(V86LabError, OSError):
    """The Store cannot keep or find bytes: full, read-only, damaged, or asked for what it does not have."""

    __str__ = V86LabError.__str__


class UnknownDigest(StoreError):
    """No blob of that digest is here."""


class MalformedDigest(StoreError):
    """Not a sha256 digest in lower-case hex."""


class DamagedBlob(StoreError):
    """A blob's bytes did not give its digest. It was set aside and is not handed out again."""


class StoreFull(StoreError):
    """The disk, a quota or a limit for file sizes left no room. Nothing of what was being put remains."""


class StoreReadOnly(StoreError):
    """The Store's home cannot be written to."""


class EngineError(V86LabError, RuntimeError):
    """Our side failed: no usable Node, an engine process that died, a connection lost, a defect of ours."""


class GuestError(V86LabError, RuntimeError):
    """The guest misbehaved, or cannot do what was asked.

    Parameters
    ----------
    tail : str
        The last lines of the guest's console, control characters made visible.
    registers : Mapping[str, int], optional
        CPU registers when the guest stopped, by their usual names.

    Attributes
    ----------
    stdout, stderr : str or bytes
        What a command had printed until then.
    """

    stdout: str | bytes = ""
    stderr: str | bytes = ""

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        seen: str | None = None,
        hint: str | None = None,
        tail: str = "",
        registers: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(what, expected=expected, seen=seen, hint=hint)
        self.tail = tail
        self.registers = dict(registers or {})

    def __str__(self) -> str:
        text = super().__str__()
        if self.registers:
            text += "\nregisters: " + " ".join(f"{name}={value:08x}" for name, value in self.registers.items())
        if self.tail:
            text += "\nlast console lines:\n" + "\n".join("  | " + line for line in self.tail.splitlines())
        return text


class GuestTimeout(GuestError, TimeoutError):
    """The guest did not finish in time.

    Attributes
    ----------
    budget : str
        What was used up: "timeout", "instructions" or "wall_timeout".
    """

    budget = "timeout"

    __str__ = GuestError.__str__


class GuestCommandError(GuestError):
    """A command that was to succeed (``check=True``) ended with a non-zero status.

    Attributes mirror `subprocess.CalledProcessError`: `cmd`, `returncode`, `stdout`, `stderr`.
    """

    cmd: str | list[str] = ""
    returncode: int = 0


class GuestFault(GuestError):
    """The guest cannot go on: a panic, a triple fault, a CPU halted for good, a fault inside the emulator."""


class GuestOff(GuestError):
    """The guest had powered off."""
