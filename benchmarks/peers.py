"""Quantise, or only calibrate, an .onnx file as ONNX Runtime and NNCF do it: what other scripts compare trtbert with.

Each is run by a process of its own; `nncf` by the interpreter of another environment, which imports nothing of trtbert's.
"""

import argparse
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feeds import Feeds, read_feeds

if TYPE_CHECKING:
    from onnxruntime.quantization import CalibrationDataReader

NUM_BINS, NUM_QUANTIZED_BINS = 2048, 128
"""Of ONNX Runtime's entropy calibration: with its default of 128 bins there is one candidate, and it never clips."""
_NNCF_QUIET = "NNCF_CI"
"""A variable of the environment that turns NNCF's telemetry off."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/peers.py static my.onnx feeds.npz int8.onnx")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("model", type=Path, help=".onnx file of an encoder in FP32")
    parser.add_argument("feeds", type=Path, help=".npz file that feeds.py wrote; dynamic does not read it")
    parser.add_argument("output", type=Path, help=".onnx file to write, .xml for nncf; entropy writes none")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    WAYS[arguments.way](arguments.model, arguments.feeds, arguments.output)


def _dynamic(model: Path, _feeds: Path, output: Path, *, per_channel: bool = False) -> None:
    """Weights in int8, activations in uint8 with a scale for each run."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(model, output, per_channel=per_channel)


def _dynamic_per_channel(model: Path, feeds: Path, output: Path) -> None:
    _dynamic(model, feeds, output, per_channel=True)


def _static(model: Path, feeds: Path, output: Path, *, options: dict[str, Any] | None = None) -> None:
    """Q/DQ around each MatMul with a constant weight: activations in uint8 by MinMax, weights in int8 per channel."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        model,
        output,
        _reader(iter(read_feeds(feeds))),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=_gemms(model),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options=options,
    )


def _static_float_outputs(model: Path, feeds: Path, output: Path) -> None:
    """The same, and what the MatMuls give stays in float."""
    _static(model, feeds, output, options={"OpTypesToExcludeOutputQuantization": ["MatMul"]})


def _gemms(model: Path) -> list[str]:
    """The names of the MatMuls with a constant weight: MatMulConstBOnly has no effect on Q/DQ."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    weights = {initializer.name for initializer in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]


def _entropy(model: Path, feeds: Path, _output: Path) -> None:
    """The thresholds of ONNX Runtime's entropy calibration, as quantize_static finds them, but with 2048 bins.

    Its collector is called text by text. Called once, as quantize_static calls it, it fails on texts of unequal lengths, and keeps
    all that it watches of all texts in memory.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            model,
            ["MatMul"],
            augmented_model_path=str(Path(folder, "augmented.onnx")),
            calibrate_method=CalibrationMethod.Entropy,
            extra_options={"num_bins": NUM_BINS, "num_quantized_bins": NUM_QUANTIZED_BINS},
        )
        for feed in read_feeds(feeds):
            calibrator.collect_data(_reader(iter([feed])))
        calibrator.compute_data()


def _reader(feeds: Iterator[Feeds]) -> "CalibrationDataReader":
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Feeds | None:
            return next(feeds, None)

    return Reader()


def _nncf(model: Path, feeds: Path, output: Path) -> None:
    """NNCF's post-training quantisation of a transformer, calibrated on all the feeds."""
    os.environ[_NNCF_QUIET] = "1"
    import nncf
    import openvino

    texts = read_feeds(feeds)
    quantized = nncf.quantize(
        openvino.Core().read_model(model), nncf.Dataset(texts), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts)
    )
    openvino.save_model(quantized, output, compress_to_fp16=False)


WAYS: dict[str, Callable[[Path, Path, Path], None]] = {
    "dynamic": _dynamic,
    "dynamic-per-channel": _dynamic_per_channel,
    "static": _static,
    "static-float-outputs": _static_float_outputs,
    "entropy": _entropy,
    "nncf": _nncf,
}


if __name__ == "__main__":
    main()
