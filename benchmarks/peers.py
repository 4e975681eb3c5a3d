"""Export, optimise, quantise, or only calibrate an encoder as ONNX Runtime, Optimum and NNCF do it: what trtbert is compared with.

Each is run by a process of its own; `optimum` and `nncf` by the interpreter of another environment, which imports nothing of trtbert's.
"""

import argparse
import json
import logging
import os
import shutil
import sys
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
_OPTIMUM_LEVEL = "O2"
"""The highest of Optimum's that changes no answers: O3 puts another function in the place of GELU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/peers.py static my.onnx feeds.npz int8.onnx")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("model", type=Path, help=".onnx file of an encoder in FP32; for transformers-tool and optimum the model folder")
    parser.add_argument("feeds", type=Path, help=".npz file that feeds.py wrote; only read by what calibrates")
    parser.add_argument("output", type=Path, help=".onnx file to write, .xml for nncf; entropy writes none")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    WAYS[arguments.way](arguments.model, arguments.feeds, arguments.output)


def _transformers_tool(model: Path, _feeds: Path, output: Path) -> None:
    """The export that it knows best, with the fusions of ONNX Runtime's optimizer of transformers; exits where it misses attention."""
    from onnxruntime.transformers.optimizer import optimize_model
    from plain_export import export

    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "plain.onnx")
        export(model, plain, "torchscript")
        sizes = {"num_heads": config["num_attention_heads"], "hidden_size": config["hidden_size"]}
        optimized = optimize_model(str(plain), model_type="bert", **sizes)
        num_fused, num_layers = optimized.get_fused_operator_statistics()["Attention"], config["num_hidden_layers"]
        if num_fused != num_layers:
            sys.exit(f"ONNX Runtime's tool fuses {num_fused} of {num_layers} attention layers.")
        optimized.save_model_to_file(str(output))


def _optimum(model: Path, _feeds: Path, output: Path) -> None:
    """The export of `optimum-cli export onnx --optimize`."""
    from optimum.exporters.onnx import main_export

    with tempfile.TemporaryDirectory() as folder:
        main_export(str(model), folder, task="feature-extraction", library_name="transformers", optimize=_OPTIMUM_LEVEL, device="cpu")
        shutil.copyfile(Path(folder, "model.onnx"), output)


def _dynamic(model: Path, _feeds: Path, output: Path) -> None:
    """Weights in int8, activations in uint8 with a scale for each run."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(model, output)


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
    "transformers-tool": _transformers_tool,
    "optimum": _optimum,
    "dynamic": _dynamic,
    "static": _static,
    "static-float-outputs": _static_float_outputs,
    "entropy": _entropy,
    "nncf": _nncf,
}


if __name__ == "__main__":
    main()
