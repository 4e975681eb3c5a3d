"""The notes and progress bars of the libraries -> nothing: our own checks say what matters."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers, torch.onnx and onnxscript off the terminal, and restore what they were set to."""
    log: Any = transformers.utils.logging
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    verbosity, levels, has_bar = log.get_verbosity(), [logger.level for logger in loggers], log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if has_bar:
            log.enable_progress_bar()
