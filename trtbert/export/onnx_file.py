"""A foreign .onnx file -> its graph, after a check that it is a whole, float32, unfused encoder of a known opset."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxscript.optimizer
import onnxscript.version_converter
from onnx_ir.passes import common

from trtbert.errors import InputError, UnsupportedError
from trtbert.export.external_data import check_external_data
from trtbert.ops import DOMAIN, OPSET

logger = logging.getLogger(__name__)

MIN_OPSET = 11
_LFS_POINTER = b"version https://git-lfs"
_QUANTISED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}
)
_NARROW = frozenset(
    {
        *(ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE, ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4),
        *(ir.DataType.UINT4, ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2),
    }
)
_SMALLEST_WEIGHT = 64
"""Elements: smaller tensors are constants of the graph, whatever their type."""
_STANDARD = ("", "ai.onnx")


def open_onnx(path: Path) -> ir.Model:
    """Any whole ONNX file, its weights mapped where they lie outside. Raises InputError for a file that is damaged."""
    proto = _parse(path)
    check_external_data(proto, path)
    return _deserialize(proto, path)


def read_onnx(path: Path) -> tuple[ir.Model, tuple[Path, ...]]:
    """The graph of `path` as it is, with all its weights, and the files it lies in.

    Raises InputError for a file that is damaged, UnsupportedError for a quantised, fused or half-precision one.
    """
    proto = _parse(path)
    check_external_data(proto, path)
    _check_nodes(proto, path)
    model = _deserialize(proto, path)
    _check_weights(model, path)
    tensors = (value.const_value for value in model.graph.initializers.values())
    external = {Path(tensor.path) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}
    with _explained(path):
        return ir.external_data.load_to_model(model), (path, *sorted(external))


def _deserialize(proto: onnx.ModelProto, path: Path) -> ir.Model:
    with _explained(path):
        model = ir.serde.deserialize_model(proto)
        ir.external_data.set_base_dir(model.graph, path.parent)
    return model


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What onnx_ir raises for contradictions inside a file shares no base class but Exception."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:300]
        raise InputError(f"{path} is not a valid ONNX file: {reason}. Export or download it again.") from error


def to_opset(model: ir.Model) -> ir.Model:
    """Convert `model` to the opset of the pipeline, functions inlined and constants folded."""
    _set_quiet(True)
    try:
        onnxscript.version_converter.convert_version(model, OPSET, fallback=True)
        if model.graph.opset_imports.get("") != OPSET:
            raise UnsupportedError(f"The file cannot be converted to opset {OPSET}. Export the model again with opset 14 to {OPSET}.")
        _simplify(model)
    finally:
        _set_quiet(False)
    return model


def _simplify(model: ir.Model) -> None:
    """Inline functions and fold constants, without onnxscript's rewrite rules: they take an epsilon of 1e-12 for zero."""
    common.InlinePass()(model)
    onnxscript.optimizer.fold_constants(model)
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)


def _set_quiet(is_quiet: bool) -> None:
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.CRITICAL if is_quiet else logging.NOTSET)


def _parse(path: Path) -> onnx.ModelProto:
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a plain file. Give a Hugging Face folder or an .onnx file.")
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS_POINTER))
        if head == _LFS_POINTER:
            raise InputError(f"{path} is a Git LFS pointer, not the model. Run 'git lfs pull' in the folder it was cloned into.")
        proto = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Give a Hugging Face folder or an .onnx file.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error
    except InputError:
        raise
    except Exception as error:  # protobuf's DecodeError, from whichever implementation of protobuf is there
        raise InputError(f"{path} ({path.stat().st_size} bytes) is not a whole ONNX file: {error}. Export or download it again.") from error
    if not proto.graph.node or not proto.opset_import:
        raise InputError(f"{path} holds no ONNX graph. Export or download it again.")
    return proto


def _check_nodes(proto: onnx.ModelProto, path: Path) -> None:
    nodes = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    local = {(function.domain, function.name) for function in proto.functions}
    if quantised := sorted({node.op_type for node in nodes if node.op_type in _QUANTISED or node.op_type.startswith("QLinear")}):
        raise UnsupportedError(f"{path.name} is already quantised ({', '.join(quantised)}). Give the float32 model it was made from.")
    fused = {f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in _STANDARD and (node.domain, node.op_type) not in local}
    fused |= {f"{DOMAIN}.{name}" for domain, name in local if domain == DOMAIN}
    if fused:
        raise UnsupportedError(
            f"{path.name} is already fused or optimised for one runtime ({', '.join(sorted(fused))}). Give the model as it was exported, "
            "with standard ONNX ops only."
        )
    opset = next((entry.version for entry in proto.opset_import if entry.domain in _STANDARD), 0)
    if not MIN_OPSET <= opset <= OPSET:
        raise UnsupportedError(
            f"{path.name} has opset {opset}; {MIN_OPSET} to {OPSET} are supported. Export the model again with opset {OPSET}."
        )


def _check_weights(model: ir.Model, path: Path) -> None:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.size >= _SMALLEST_WEIGHT and tensor.dtype in _NARROW:
            raise UnsupportedError(
                f"{path.name} holds {tensor.dtype.name.lower()} weights ({name} {list(tensor.shape)}): it was already converted to "
                "another precision. "
                "Give the float32 model; trtbert chooses the precision itself."
            )
