"""Contenders in this process instead of their own: nothing is started, and the times mean nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from trtbert.benchmark import contender, field


class Worker:
    """In the place of `trtbert.worker_process.Worker`: what a contender has loaded is there while it is called."""

    def __init__(self) -> None:
        self._loaded = list[Any]()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(contender, "_loaded", self._loaded)
            return function(*arguments)


@contextmanager
def worker(name: str, advice: str) -> Iterator[Worker]:
    yield Worker()


@contextmanager
def no_processes() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field, "worker", worker)
        yield
    torch.set_num_threads(num_threads)  # which a contender sets for its process
