"""Make an image from a recipe: a Python file that leaves an Image in the variable `image`.

What is written is one file that holds everything the image needs, to hand out: ``v86lab run`` and `v86lab.Machine` take
it on any computer, and `tar tf` lists it.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import traceback
from pathlib import Path

from v86lab.errors import ImageError, V86LabError
from v86lab.image import Image
from v86lab.progress import Progress
from v86lab.store import Store

EPILOG = """\
a recipe:
  import v86lab as lab
  image = lab.images.linux(share="exercises", memory="64 MiB")
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="the Python file; it is run, so trust it first")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="where to write; RECIPE with .v86 otherwise")


def main(options: argparse.Namespace) -> int:
    recipe: Path = options.recipe
    target: Path = options.output or recipe.with_suffix(".v86")
    if target.resolve() == recipe.resolve():
        raise ImageError("the image would replace its recipe", expected="another file", seen=str(target), hint="use -o")
    with Progress(f"building {recipe}"):
        image = cook(recipe)
        image.save(target, Store())
    print(f"{target}: {image.name}, {image.digest[:12]}")
    return 0


def cook(recipe: Path) -> Image:
    """Run a recipe as a script of its own, and give the Image it leaves.

    Raises
    ------
    ImageError
        There is no such file, it fails, or what it leaves is no Image.
    """
    if not recipe.is_file():
        raise ImageError("there is no such recipe", expected="a Python file", seen=str(recipe))
    sys.path.insert(0, str(recipe.resolve().parent))
    try:
        names = runpy.run_path(str(recipe), run_name="__recipe__")
    except V86LabError as error:
        raise type(error)(
            f"{_where(recipe, error)}{error.what}", expected=error.expected, seen=error.seen, hint=error.hint
        ) from error
    except (Exception, SystemExit) as error:
        seen = "".join(traceback.format_exception_only(error)).strip()
        raise ImageError(f"{_where(recipe, error)}the recipe failed", seen=seen) from error
    finally:
        sys.path.pop(0)
    image = names.get("image")
    if not isinstance(image, Image):
        seen = "no such variable" if "image" not in names else f"a {type(image).__name__}"
        raise ImageError(
            f"{recipe} leaves no image",
            expected="an Image in the variable `image`",
            seen=seen,
            hint="end it with, for example, image = lab.images.linux()",
        )
    return image


def _where(recipe: Path, error: BaseException) -> str:
    """The last line of the recipe on the way to an error, as a prefix."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(recipe)]
    return f"{recipe}, line {lines[-1]}: " if lines else f"{recipe}: "
