"""IPython without a user: no profile of somebody's, no history, no part in this process's ``__main__``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

Shell: Any = InteractiveShell  # whose methods have no types


def shell_with_extension(folder: Path) -> Any:
    """A shell that keeps what it keeps in a folder, after ``%load_ext v86lab``."""
    config = Config({"HistoryManager": {"enabled": False}})
    shell = Shell(config=config, ipython_dir=str(folder), user_module=ModuleType("user"))
    shell.run_line_magic("load_ext", "v86lab")
    return shell
