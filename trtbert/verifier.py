"""The graphs and engines of a compilation -> the figures of each stage against the source model."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx_ir as ir

from trtbert import verify
from trtbert.builders.files import save_onnx
from trtbert.config import Precision
from trtbert.export import Source
from trtbert.package import StageFigures, Verification
from trtbert.precision import emulated
from trtbert.runtime.ort import OrtRuntime
from trtbert.verification import num_texts
from trtbert.verify import Feeds

logger = logging.getLogger(__name__)


class Verifier:
    """The verification batches, what the source model answers to them, and the figures of each stage so far."""

    def __init__(self, source: Source, batches: Sequence[Feeds], scratch: Path, dump: Path | None) -> None:
        self.task, self.batches, self.scratch, self.dump = source.facts.task, batches, scratch, dump
        self.expected = [source.reference(feeds) for feeds in batches]
        self.stages: list[StageFigures] = []
        self.quantized: list[Feeds] | None = None
        """What the Q/DQ graph answers."""
        self.num_dumped = 0

    def check(
        self, stage: str, model: ir.Model, *, precision: Precision = "fp32", runnable: ir.Model | None = None, is_half: bool = False
    ) -> None:
        """Run the graph of one stage on ONNX Runtime's CPU provider; the first stage that breaks raises VerificationError.

        `runnable` is an equal graph that the provider runs, where it does not run `model` itself. `is_half` says that it has 16-bit floats.
        """
        if self.dump is not None:
            self.num_dumped += 1
            save_onnx(model, self.dump / f"{self.num_dumped:02d}-{stage}.onnx")
        path = self.scratch / f"{stage}.onnx"
        # ONNX Runtime's CPU provider computes runs of FP16 nodes in float32, and hardly any in BF16: round after every node instead.
        runnable = runnable or model
        ir.save(emulated(runnable) if is_half else runnable, path, external_data=f"{stage}.data")
        self.check_runner(stage, OrtRuntime(path).run, precision=precision)
        for file in self.scratch.iterdir():
            file.unlink()

    def leave_out(self, is_left_out: Callable[[Feeds], bool]) -> None:
        """Compare the stages to come on the other batches only."""
        kept = [index for index, feeds in enumerate(self.batches) if not is_left_out(feeds)]
        self.batches, self.expected = [self.batches[i] for i in kept], [self.expected[i] for i in kept]
        self.quantized = None if self.quantized is None else [self.quantized[i] for i in kept]

    def check_runner(self, stage: str, run: Callable[[Feeds], Feeds], *, precision: Precision) -> None:
        """The same for what `run` runs."""
        limits = verify.LIMITS[precision]
        figures = verify.compare(stage, self.batches, self.expected, run, task=self.task, limits=limits)
        self.stages.append(verify.check(figures, limits=limits))
        if precision == "int8":
            self._check_same_int8(stage, run)
        logger.info("%s: error %.1e, cosine %.6f", stage, figures.max_error, figures.cosine)

    def _check_same_int8(self, stage: str, run: Callable[[Feeds], Feeds]) -> None:
        """What INT8 costs would hide a mistake of a later stage; against the Q/DQ graph it shows."""
        if self.quantized is None:
            self.quantized = [run(feeds) for feeds in self.batches]
            return
        figures = verify.compare(stage, self.batches, self.quantized, run, task=self.task, limits=verify.SAME_INT8)
        verify.check(figures, limits=verify.SAME_INT8, against="the Q/DQ graph")

    def verification(self, unverified: tuple[str, ...] = ()) -> Verification:
        return Verification(
            stages=tuple(self.stages), num_batches=len(self.batches), num_texts=num_texts(self.batches), unverified=unverified
        )
