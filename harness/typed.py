"""Read values of declared types from text, and write them as text that reads back."""

from __future__ import annotations

import math
import types
from decimal import Decimal
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from harness.cell import unknown

PLAIN = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    type(None): "none",
}
DIGITS = 20  # that a float is written with before it has an exponent


def read(kind: Any, text: str) -> Any:
    """Return the value of a type that a text stands for.

    kind: int, float, bool, str, None, a Literal, a tuple of such, or a union. ``none`` is None, a
    tuple is written ``64+64``, one of a single value ``64+``, an empty one ``()``. Raises
    ValueError saying what is allowed.
    """
    what = allowed(kind)
    if text == "none" and type(None) in _members(kind):
        return None
    raws: list[Any] = [text]
    if any(get_origin(one) is tuple for one in _members(kind)):
        parts = text.split("+")
        if text == "()" or len(parts) > 1:
            raws.append([] if text == "()" else parts[:1] if parts[1:] == [""] else parts)
    for raw in raws:
        try:
            value = msgspec.convert(raw, kind, strict=False)
        except msgspec.ValidationError:
            continue
        if value == value:  # not nan
            return value
    choices = [str(one) for member in _members(kind) for one in _choices(member)]
    raise unknown("value", text, choices) if choices else ValueError(f"it takes {what}")


def written(value: Any) -> str:
    """Return a value as the text that ``read`` takes. Floats have no exponent if they are short."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        exact = repr(float(value))  # NumPy's floats have a repr of their own
        plain = format(Decimal(exact), "f")
        short = math.isfinite(value) and len(plain) <= DIGITS
        return plain.removesuffix(".0") if short else exact.replace("e+", "e")
    if isinstance(value, tuple | list):
        return "+".join(map(written, value)) + "+" * (len(value) == 1) or "()"
    return str(value)


def allowed(kind: Any) -> str:
    """Return in words what values a type has. Raises ValueError for one that no text stands for."""
    members = _members(kind)
    if len(members) > 1:
        return " or ".join(map(allowed, members))
    if choices := _choices(kind):
        return f"one of {', '.join(map(str, choices))}"
    if get_origin(kind) is tuple and (inner := get_args(kind)):
        if any(get_origin(one) is tuple for part in inner for one in _members(part)):
            raise ValueError("no text stands for tuples in a tuple")
        if inner[-1] is Ellipsis:
            return f"{allowed(inner[0])} or several, joined by + (one alone: with + behind it)"
        return f"{' + '.join(map(allowed, inner))}"
    if kind not in PLAIN:
        raise ValueError(f"no text stands for the type {getattr(kind, '__name__', kind)}")
    return PLAIN[kind]


def has_text(kind: Any) -> bool:
    """Whether some text stands for the values of a type."""
    try:
        allowed(kind)
    except ValueError:
        return False
    return True


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the types that a union is made of; the type itself if it is none."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()
