"""Format values for people, and serialise them for an HTML script element."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

NONE = "\N{EN DASH}"


def finite(value: Any) -> bool:
    """Return whether a value is a number to show or draw (no bool, NaN, infinity or text)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def number(value: Any) -> str:
    """Format a number to four significant digits; text stays, anything else becomes a dash."""
    if not finite(value):
        return value if isinstance(value, str) and value else NONE
    size = abs(value)
    if size and not 1e-4 <= size < 1e7:
        return f"{value:.3g}"
    if float(value).is_integer() or size >= 1e4:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def seconds(value: Any) -> str:
    """Format a duration in seconds in the unit that suits it, from µs to h."""
    if not finite(value):
        return NONE
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if abs(value) >= (2 * size if size > 1 else size):
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def amount(value: Any, unit: str, base: float = 1000.0) -> str:
    """Format an amount with a unit prefix: ``amount(3.67e9, "FLOP")`` is 3.67 GFLOP.

    Base 1024 gives Ki, Mi, Gi.
    """
    if not finite(value):
        return NONE
    power = min(int(math.log(abs(value), base)), 5) if abs(value) >= 1 else 0
    prefix = ("", "k", "M", "G", "T", "P")[power] if base == 1000 else "KMGTP"[power - 1] + "i"
    scaled = value / base**power
    digits = f"{scaled:.0f}" if scaled >= 100 else f"{scaled:.3g}"
    return f"{digits} {prefix if power else ''}{unit}"


def percent(value: Any) -> str:
    """Format a share as a percentage."""
    if not finite(value):
        return NONE
    return f"{100 * value:.0f} %" if abs(value) >= 0.0995 or value == 0 else f"{100 * value:.1f} %"


def chance(value: Any) -> str:
    """Format a p value: to two digits, and under 0.001 only as that."""
    if not finite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def rounded(values: Sequence[Any] | pd.Series, digits: int = 5) -> list[float | None]:
    """Round numbers to ``digits`` significant digits; None for what is no finite number."""
    return [float(f"{v:.{digits}g}") if finite(v) else None for v in map(_scalar, values)]


def escaped(value: Any) -> str:
    """Escape text for Plotly, which interprets tags and entities in the text it draws."""
    return html.escape(str(value), quote=False)


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as dicts, with None for what is missing."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def script_json(value: object) -> str:
    """Serialise a value as JSON that is safe inside an HTML script element."""
    text = json.dumps(_clean(value), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _scalar(value: Any) -> Any:
    """Return a NumPy scalar as a Python one, and any other value as it is."""
    return value.item() if hasattr(value, "item") else value


def _clean(value: Any) -> Any:
    """Return a value as JSON can hold it: string keys, lists, None for NaN and infinity."""
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    value = _scalar(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
