"""The PS/2 keyboard: literal text, and keys in Packer's notation, as scancodes of set 1 for a US layout.

Sources: "Keyboard scancodes", set 1, as the IBM PC AT's controller translates them; the notation is that of Packer's
``boot_command`` (HashiCorp's documentation of the QEMU builder), where case does not matter within ``<`` and ``>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .errors import ImageError
from .protocol import Press
from .session import Session

_RELEASE = 0x80
_EXTENDED = 0xE0
_SHIFT = 0x2A
_ROWS = (  # the first key's code, unshifted and shifted characters of the keys that follow each other
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1E, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
)
_PLAIN = {character: first + n for first, plain, _ in _ROWS for n, character in enumerate(plain)}
_PLAIN |= {" ": 0x39, "\n": 0x1C, "\t": 0x0F, "\b": 0x0E, "\x1b": 0x01}
_SHIFTED = {character: first + n for first, _, shifted in _ROWS for n, character in enumerate(shifted)}
_NAMED: dict[str, tuple[int, ...]] = {
    "bs": (0x0E,), "tab": (0x0F,), "enter": (0x1C,), "return": (0x1C,), "esc": (0x01,), "spacebar": (0x39,),
    "insert": (0xE0, 0x52), "home": (0xE0, 0x47), "end": (0xE0, 0x4F), "pageup": (0xE0, 0x49), "pagedown": (0xE0, 0x51),
    "del": (0xE0, 0x53), "up": (0xE0, 0x48), "down": (0xE0, 0x50), "left": (0xE0, 0x4B), "right": (0xE0, 0x4D),
    "menu": (0xE0, 0x5D), "capslock": (0x3A,), "numlock": (0x45,), "scrolllock": (0x46,),
    "leftctrl": (0x1D,), "rightctrl": (0xE0, 0x1D), "leftalt": (0x38,), "rightalt": (0xE0, 0x38),
    "leftshift": (0x2A,), "rightshift": (0x36,), "leftsuper": (0xE0, 0x5B), "rightsuper": (0xE0, 0x5C),
    **{f"f{n}": (0x3A + n,) for n in range(1, 11)}, "f11": (0x57,), "f12": (0x58,),
}  # fmt: skip
_NAMED |= {short: _NAMED["left" + short] for short in ("ctrl", "alt", "shift", "super")}
_TOKEN = re.compile(r"<([^<>]+)>|([^<])", re.DOTALL)
_WAIT = re.compile(r"wait(\d{1,9}|(?:\d{1,9}(?:ms|s|m|h))+)?")
_DURATION = re.compile(r"(\d+)(ms|s|m|h)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}

Step = dict[str, Any]


class Keyboard:
    """Types on the guest's keyboard.

    Examples
    --------
    >>> import v86lab as lab
    >>> with lab.Machine() as vm:
    ...     vm.keyboard.type("echo <hi>; exit\\n".replace("; exit", ""))
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def type(self, text: str) -> None:
        """Type `text` as it is.

        Raises
        ------
        ImageError
            A character that a US keyboard does not have.
        """
        self._press([_character(one) for one in text])

    def keys(self, notation: str) -> None:
        """Press keys: ``"<ctrl+alt+del>"``, ``"<f2><wait2>"``, ``"root<enter>"``.

        Named keys are Packer's: bs, del, enter, esc, tab, f1 to f12, up, down, left, right, spacebar, insert, home,
        end, pageup, pagedown, menu, leftalt, leftctrl, leftshift, leftsuper and the same with right. ``<leftctrlon>``
        and ``<leftctrloff>`` hold and release one; keys joined by ``+`` are held together; ``<wait>`` rests a second,
        ``<wait5>`` five, ``<wait200ms>``, ``<wait1m30s>``.

        Raises
        ------
        ImageError
            A key that is not known.
        """
        self._press(list(_steps(notation)))

    def _press(self, steps: list[Step]) -> None:
        rests = sum(step.get("wait", 20) for step in steps) / 1000
        if steps:
            allow = None if self._session.seed is not None else 60 + 10 * rests  # s, where rests are guest time
            self._session.call(Press, allow=allow, steps=steps)


def _steps(notation: str) -> Iterator[Step]:
    at = 0
    while at < len(notation):
        token = _TOKEN.match(notation, at)
        if token is None:
            raise ImageError(
                "a key has no end", expected='"<name>"', seen=notation[at : at + 20], hint="use type() for text"
            )
        at = token.end()
        yield _named(token[1]) if token[1] else _character(token[2])


def _named(name: str) -> Step:
    name = name.lower()
    wait = _WAIT.fullmatch(name)
    if wait:
        rests = _DURATION.findall(wait[1] or "") or [(wait[1] or "1", "s")]
        return {"wait": sum(int(count) * _MILLISECONDS[unit] for count, unit in rests)}
    for ending, codes in (("on", _down), ("off", _up)):
        key = name.removesuffix(ending)
        if key != name and (key in _NAMED or key in _PLAIN):
            return {"codes": codes(_key(key))}
    pressed = [_key(part) for part in (name.split("+") if len(name) > 1 else [name])]
    down = [code for key in pressed for code in _down(key)]
    return {"codes": down + [code for key in reversed(pressed) for code in _up(key)]}


def _key(name: str) -> tuple[int, ...]:
    if name in _NAMED:
        return _NAMED[name]
    if name in _PLAIN:
        return (_PLAIN[name],)
    raise ImageError("no such key", expected="one of " + ", ".join(sorted(_NAMED)), seen=repr(name))


def _character(character: str) -> Step:
    if character in _PLAIN:
        key = (_PLAIN[character],)
        return {"codes": _down(key) + _up(key)}
    if character in _SHIFTED:
        key = (_SHIFTED[character],)
        return {"codes": [_SHIFT, *_down(key), *_up(key), _SHIFT | _RELEASE]}
    raise ImageError(
        "a US keyboard cannot type this character", seen=repr(character), hint="vm.console.send takes any text"
    )


def _down(key: tuple[int, ...]) -> list[int]:
    return list(key)


def _up(key: tuple[int, ...]) -> list[int]:
    return [code if code == _EXTENDED else code | _RELEASE for code in key]
