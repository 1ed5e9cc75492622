"""Let the signals that end a process end a run in order, as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def end_as_by_ctrl_c(when_over: Callable[[Callable[[], None]], Any]) -> None:
    """Have SIGTERM and SIGHUP raise KeyboardInterrupt, unless they are handled or ignored already.

    when_over: is given a function that undoes it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    changed = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    def undo() -> None:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)

    for number in changed:
        signal.signal(number, interrupt)
    when_over(undo)
