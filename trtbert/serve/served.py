"""Which packages each worker serves, in memory that all processes share: a new worker joins in, or does not start."""

import hashlib
import mmap
from collections.abc import Mapping

from trtbert.errors import PackageError
from trtbert.serve.models import Model


class Served:
    """Made before the workers are forked; each writes its own place."""

    def __init__(self, num_workers: int) -> None:
        self._digests: memoryview[int] = memoryview(mmap.mmap(-1, 8 * num_workers)).cast("Q")

    def join(self, worker: int, models: Mapping[str, Model]) -> None:
        """PackageError where others serve, and not these models: clients would get now the answers of one, now of the other."""
        others = {digest for digest in self._digests if digest}
        if others and _digest(models) not in others:
            raise PackageError("The packages were replaced, and other workers serve the old ones. Send SIGHUP: all load the new ones.")
        self.note(worker, models)

    def note(self, worker: int, models: Mapping[str, Model]) -> None:
        """After a reload."""
        self._digests[worker] = _digest(models)

    def leave(self, worker: int) -> None:
        """After the worker died."""
        self._digests[worker] = 0


def _digest(models: Mapping[str, Model]) -> int:
    """64 bits, never 0; a manifest holds the sha256 of every other file."""
    text = "".join(f"{name}\0{model.predictor.manifest.model_dump_json()}\0" for name, model in sorted(models.items()))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) or 1
