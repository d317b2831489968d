"""``%load_ext v86lab`` gives ``%%guest``: a cell that is a shell script, run in a machine.

Rule: what is written after the options is the guest's, to the letter: IPython expands neither
``$name`` nor ``{braces}`` in it.

IPython is imported when the extension is loaded and not before: scripts do without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .machine import Machine

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# Options before the command of a line; its own quotes are left alone.
_OPTION = re.compile(r"\s*--(?:check|(?:out|timeout|input)(?:\s*=\s*|\s+)\S+)(?!\S)")


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What ``%load_ext v86lab`` calls."""
    shell.register_magic_function(_guest_magic(shell), "line_cell", "guest")


def _guest_magic(shell: InteractiveShell) -> Any:
    from IPython.core.error import UsageError
    from IPython.core.magic import no_var_expand
    from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

    def standard_input(name: str | None) -> str | bytes | None:
        if name is None:
            return None
        value = shell.user_ns.get(name)
        if not isinstance(value, str | bytes):
            raise UsageError(f"%guest: --input expects a variable with str or bytes; {name} is {type(value).__name__}")
        return value

    def chosen(expression: str | None) -> Machine:
        known = _machines(shell.user_ns)
        names = ", ".join(known) or "none; vm = v86lab.Machine() makes one"
        if expression is None:
            if len(known) != 1:
                raise UsageError(f"%guest: which machine? Expected one, or its name; there are: {names}")
            return next(iter(known.values()))
        try:
            value = shell.ev(expression)
        except Exception as error:
            raise UsageError(f"%guest: {expression} is no machine ({error}). There are: {names}") from None
        if not isinstance(value, Machine):
            raise UsageError(f"%guest: {expression} is no machine, but {type(value).__name__}. There are: {names}")
        return value

    @no_var_expand
    @magic_arguments()
    @argument("machine", nargs="?", help="an expression without spaces, such as vm; not needed when there is one only")
    @argument("--out", metavar="NAME", help="a variable for the CommandResult")
    @argument("--check", action="store_true", help="raise GuestCommandError when the exit status is not 0")
    @argument("--timeout", type=float, metavar="SECONDS", help="after which all that it started is killed")
    @argument("--input", metavar="NAME", help="a variable with its standard input, str or bytes")
    def guest(line: str, cell: str | None = None) -> None:
        """Run the cell as a shell script in the guest, and show what it prints as it comes.

        In one line, ``%guest [options] [machine] command``, the machine is a variable's name.
        """
        words, script = (line, cell) if cell is not None else _split(line, shell.user_ns)
        options = parse_argstring(guest, words)
        if not script.strip():
            raise UsageError("%guest: there is nothing to run. Write a command behind it, or a script below %%guest")
        result = chosen(options.machine).run(
            script,
            timeout=options.timeout,
            check=options.check,
            input=standard_input(options.input),
            stream=True,
        )
        if options.out is not None:
            shell.user_ns[options.out] = result

    return guest


def _machines(names: Mapping[str, Any]) -> dict[str, Machine]:
    """The open machines that a user's variables hold, each by one name; IPython's own (``_``, ``_3``) do not count."""
    found: dict[int, tuple[str, Machine]] = {}
    for name, value in names.items():
        if isinstance(value, Machine) and not name.startswith("_") and value.status != "closed":
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _split(line: str, names: Mapping[str, Any]) -> tuple[str, str]:
    """The options and the machine of a one-line command, and the command."""
    end = 0
    while option := _OPTION.match(line, end):
        end = option.end()
    rest = line[end:].lstrip()
    if rest.startswith("--"):
        return line, rest  # not one of ours: the parser says so
    first, _, command = rest.partition(" ")
    if isinstance(names.get(first), Machine):
        return f"{line[:end]} {first}", command
    return line[:end], rest
