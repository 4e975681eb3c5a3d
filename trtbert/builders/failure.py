"""Turn the exit status and the log of a failed engine build into one clear error."""

import re
import signal
from pathlib import Path

from trtbert.config import Runtime, Target
from trtbert.errors import InputError, TrtbertError, UnsupportedError
from trtbert.process_log import last_lines

_CAUSES: tuple[tuple[str, type[TrtbertError], str], ...] = (
    (
        r"FP32 GEMM is not supported",
        UnsupportedError,
        "it has no float32 matrix multiplication for this GPU; use --precision fp16, and for a student, whose LSTM stays in float32, "
        "--target sm80 or later, or cpu",
    ),
    (r"No space left on device", InputError, "the disk is full; free some space and run it again"),
    (
        r"MemoryError|bad_alloc|[Oo]ut of (device |host )?[Mm]emory|OutOfMemory|Cuda failure: 2\b|insufficient memory",
        UnsupportedError,
        "it ran out of memory; use a smaller maximum in --batch-size or --seq-len, or a machine with more memory",
    ),
    (r"violate shape constraints", UnsupportedError, "the graph cannot take a shape of the profile; use a smaller maximum in --seq-len"),
)
"""Pattern in the log, the error it is, and what it means; the first that matches is taken."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def build_error(status: int, log: Path, *, runtime: Runtime, target: Target) -> TrtbertError:
    """The error for a builder that ended with `status` (negative: the signal that killed it); names its last lines and `log`."""
    text = _COLOUR.sub("", log.read_text(errors="replace"))
    kind, cause = _cause(status, text)
    return kind(f"{runtime} built no engine for {target}: {cause}.{last_lines(text)}\nThe whole log: {log}")


def _cause(status: int, text: str) -> tuple[type[TrtbertError], str]:
    for pattern, kind, cause in _CAUSES:
        if re.search(pattern, text):
            return kind, cause
    if status == -signal.SIGKILL:
        return UnsupportedError, "its process was killed, most often for want of memory; close other programs or use a smaller profile"
    if status < 0:
        return (
            UnsupportedError,
            f"its process died of signal {signal.Signals(-status).name} on this graph; try another --precision or runtime",
        )
    return UnsupportedError, f"it refused the graph (exit status {status}); try another --precision or runtime"
