"""Calibrate one model on a file of texts, as the stage `calibrate` does: what calibration_cost.py measures."""

import argparse
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from trtbert import open_package
from trtbert.calibrate import Calibrated, calibrate
from trtbert.calibration_texts import read_calibration_texts


def calibrate_once(package: Path, graph: Path, texts: Path, size: int) -> Calibrated:
    """`graph` is the fused one that `trtbert compile --dump` leaves; the first `size` texts are all calibrated on."""
    opened = open_package(package)
    read = read_calibration_texts(texts, opened.tokenizer_path, opened.manifest.model, column=None, size=size)
    everything = replace(read, encodings=(*read.encodings, *read.held_back))
    return calibrate(
        ir.load(graph),
        everything.batches,
        read.held_back_batches(),
        method="entropy",
        quantize="linear",
        smooth=False,
        has_int8_embeddings=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="a package of the model, which has its tokenizer")
    parser.add_argument("graph", type=Path, help="02-rewrite.onnx of the same model")
    parser.add_argument("texts", type=Path, help="any file that trtbert reads")
    parser.add_argument("size", type=int, help="the number of texts in it")
    arguments = parser.parse_args()
    calibrate_once(arguments.package, arguments.graph, arguments.texts, arguments.size)


if __name__ == "__main__":
    main()
