"""A machine as the last line of a cell: its view, and below it a picture that stays in the file.

Rules:

- to be shown is to be started, on a thread of its own, so that the cell does not wait; under a Jupyter server that may
  be in the page;
- the picture is an output of its own, because a front end that gets news for an output builds the whole of it anew; a
  page in which the view lives hides it (``js/src/view/page.css``). It is renewed whenever the machine has come to rest;
- where no front end listens (nbclient, papermill) there is only the picture, of the moment after the start: a widget
  would be dead in the file, and nbval does not like outputs that change;
- nothing of Jupyter is imported before a machine is shown.
"""

from __future__ import annotations

import base64
import os
import sys
import threading
import uuid
import weakref
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

from . import picture
from .channel import RequestFailed
from .errors import V86LabError
from .machine import Machine
from .png import png
from .protocol import ReadPixels, ReadScreen
from .session import Session

if TYPE_CHECKING:
    from .widget import View

_FRONT_ENDS = ("VSCODE_PID", "COLAB_RELEASE_TAG")  # what the kernels of VS Code and Colab find in their environment
_REST = 2.0  # s without output
_LOOK_EVERY = 10.0  # s, for whether the machine is still there
_PATIENCE = 5.0  # s for the engine to say what it shows

_shown: weakref.WeakKeyDictionary[Machine, Shown] = weakref.WeakKeyDictionary()


def register(shell: Any = None) -> None:
    """Have IPython show machines; does nothing where there is no IPython."""
    if shell is None and "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
    if shell is not None:
        shell.display_formatter.ipython_display_formatter.for_type(Machine, show)


def show(machine: Machine) -> None:
    """Show a machine in the cell that runs."""
    import IPython

    shell: Any = IPython.get_ipython()
    if getattr(shell, "kernel", None) is None:  # a terminal
        print(repr(machine))
        return
    if not somebody_looks():
        if machine.status == "new":
            machine.start()
        _publish({"text/plain": _text(machine), "image/png": _picture(machine._session)})
        return
    shown = _shown.get(machine)
    if shown is None:
        shown = _shown[machine] = Shown(machine)
    shown.add(machine)


class Shown:
    """What there is of a machine in notebooks: a widget, and the pictures below it."""

    def __init__(self, machine: Machine) -> None:
        from .widget import View

        self._session = machine._session
        self._name, self._text = machine.image.name, _text(machine)
        self.view: View = View(machine.hub, machine._session.views, machine.id, self._name, under_a_server())
        self._places: list[str] = []
        self._ended = False
        weakref.finalize(machine, self._end)

    def add(self, machine: Machine) -> None:
        """Show it once more."""
        first, place = not self._places, uuid.uuid4().hex
        self._places.append(place)
        if under_a_server():
            self._session.expects_page = True
            if not first:
                self.view.invite()
        widget = {"model_id": self.view.model_id, "version_major": 2, "version_minor": 0}
        _publish({"text/plain": self._text, "application/vnd.jupyter.widget-view+json": widget})
        self._publish_picture(place, update=False)
        if machine.status == "new":
            threading.Thread(target=self._start, name="v86lab start", daemon=True).start()
        if first:
            threading.Thread(target=self._follow, name="v86lab picture", daemon=True).start()

    def _start(self) -> None:
        try:
            self._session.start()
        except Exception as error:
            self._session.views.announce(str(error))

    def _publish_picture(self, place: str, update: bool) -> None:
        _publish({"text/plain": f"what {self._name!r} shows", "image/png": _picture(self._session)}, place, update)

    def _follow(self) -> None:
        """Keep the pictures of a machine that people look at up to date."""
        pictured, transcript = -1, self._session.transcript
        while not self._ended and self._session.wait_until(_stands, None) != "closed":
            total = transcript.since(pictured, _LOOK_EVERY)[1]
            while total != (total := transcript.since(total, _REST)[1]):
                continue
            if total != pictured:
                pictured = total
                for place in self._places:
                    self._publish_picture(place, update=True)

    def _end(self) -> None:
        self._ended = True
        self.view.close()


def under_a_server() -> bool:
    """Whether a Jupyter server started this kernel, so that a page may reach the Hub; nbclient does not say so."""
    return "JPY_SESSION_NAME" in os.environ


def somebody_looks() -> bool:
    """Whether there is a front end that shows widgets: of a Jupyter server, or one of those that bring their own."""
    return under_a_server() or any(name in os.environ for name in _FRONT_ENDS)


def _text(machine: Machine) -> str:
    return f"<Machine {machine.image.name!r}>"


def _picture(session: Session) -> str:
    drawn = _draw(session) or picture.draw([f"{session.image.name}: {session.status}"])
    return base64.b64encode(drawn).decode()


def _draw(session: Session) -> bytes | None:
    """The screen, where the guest draws on it, else the console's last lines; None where nothing was shown yet."""
    engine, history = session.engine, session.views.history()
    if engine is None or history is None:
        return None
    try:
        rows = picture.lines(history.result(_PATIENCE).payload)
        if any(rows) and not engine.request(ReadScreen).reply.result(_PATIENCE).value["graphical"]:
            return picture.draw(rows)
        pixels = engine.request(ReadPixels).reply.result(_PATIENCE)
        return png(pixels.value["width"], pixels.value["height"], pixels.payload)
    except (V86LabError, RequestFailed, FutureTimeout, ArithmeticError, LookupError, TypeError):
        return None  # no engine any more, or a screen without a size


def _publish(data: dict[str, Any], place: str | None = None, update: bool = False) -> None:
    from IPython.display import publish_display_data

    publish: Any = publish_display_data
    publish(data, {}, transient={"display_id": place} if place else {}, update=update)


def _stands(status: str) -> bool:
    return status not in ("new", "starting")
