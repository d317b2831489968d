"""From ``sys.argv`` to a command, and from what it raises to an exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from v86lab.errors import V86LabError

from . import build, doctor, gc, lab, run, serve, warm

INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + 13  # SIGPIPE, which Windows has no name for


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, and give its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; `sys.argv` has them otherwise.

    Examples
    --------
    >>> main(["run", "no-such-image"])    # and a message on standard error
    1
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # argparse's own treatment of "--" differs between Python's versions, so what follows it never gets there.
    ours, rest = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, None)
    parser = make_parser()
    options = parser.parse_args(ours)
    if rest is not None and not options.takes_rest:
        parser.error(f"{options.command} takes nothing after --")
    options.rest = rest or []
    try:
        status = int(options.main(options))
        sys.stdout.flush()
    except V86LabError as error:
        print(f"v86lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def make_parser() -> argparse.ArgumentParser:
    """What a command line may say, without what follows "--"."""
    parser = argparse.ArgumentParser(
        prog="v86lab",
        description="A PC in a notebook cell: build what it boots, drive it, look inside it and keep its states.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"v86lab {version('v86lab')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (lab, run, build, serve, warm, gc, doctor):
        name = module.__name__.rpartition(".")[2]
        about = (module.__doc__ or "").partition("\n\n")
        command = commands.add_parser(
            name,
            help=about[0][0].lower() + about[0][1:].removesuffix("."),
            description=about[0],
            epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(main=module.main, takes_rest=False)
        module.add(command)
    return parser
