"""Where an .onnx file says that its tensors lie -> a check that all of them lie whole, in plain files beside it."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from trtbert.errors import InputError

_NUMBER = re.compile("[0-9]{1,18}")


def check_external_data(proto: onnx.ModelProto, path: Path) -> None:
    """Raises InputError for a tensor of `path`, wherever in it, that lies outside its folder or is incomplete."""
    for tensor in _tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_tensor(tensor, path)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)
        for attribute in function.attribute_proto:
            yield from _attribute_tensors(attribute)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    yield from (attribute.t, *attribute.tensors)
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield from (sparse.values, sparse.indices)
    if attribute.HasField("g"):
        yield from _graph_tensors(attribute.g)
    for graph in attribute.graphs:
        yield from _graph_tensors(graph)


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not _is_inside(path.parent, location):
        raise InputError(
            f"{path.name} keeps the tensor {tensor.name!r} in {location!r}; external data must lie in the folder of the .onnx file. "
            "Export the model again, or move the data beside it."
        )
    if wrong := [f"{key} {value!r}" for key in ("offset", "length") if not _NUMBER.fullmatch(value := entries.get(key, "0"))]:
        raise InputError(
            f"The external data of {path.name} is damaged: {tensor.name!r} has {' and '.join(wrong)}, where a whole number of bytes is "
            "needed. Export or download the file again."
        )
    file = path.parent / location
    needed = int(entries.get("offset", "0")) + int(entries.get("length", "0"))
    if not file.is_file() or file.stat().st_size < needed:
        size = file.stat().st_size if file.is_file() else "no"
        raise InputError(
            f"The external data of {path.name} is incomplete: {tensor.name!r} ends at byte {needed} of {location}, which has {size} "
            "bytes. Copy the whole data file beside the .onnx file."
        )


def _is_inside(folder: Path, location: str) -> bool:
    is_plain = location and not PurePosixPath(location).is_absolute() and not PureWindowsPath(location).is_absolute()
    return bool(is_plain) and ".." not in PureWindowsPath(location).parts and (folder / location).resolve().is_relative_to(folder.resolve())
