"""End of a process with its true exit code. Imports no torch."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from convoy.runtime.cpu_cores import Imports


def end_with(run: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code.

    Threads that a run starts have ended by then. A logger's thread that waits for a server may be left, or one of a
    user's callback: Python ends such a thread in the middle of its C++ code, which aborts the process (exit code 134),
    so the process then ends without Python's finalization. So does a forked run, since finalization would copy each
    page with objects of the imports.
    """
    try:
        code = run()
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    if Imports.are_done or any(thread.daemon for thread in threading.enumerate()):
        threading._shutdown()  # type: ignore[attr-defined]  # ends thread pools and waits, as Python does here
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
        os._exit(code)
    sys.exit(code)
