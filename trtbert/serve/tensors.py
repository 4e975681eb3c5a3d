"""The tensors of the Open Inference Protocol, in JSON or as binary data after it, <-> texts and arrays."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic_core import to_json
from starlette.responses import Response

from trtbert.serve.bodies import InferInput, InferRequest
from trtbert.serve.call import Call
from trtbert.serve.models import Model
from trtbert.serve.refusal import Refusal
from trtbert.serve.reply import json_reply

_HEADER = "inference-header-content-length"
_LENGTH = struct.Struct("<I")
VERSION = "1"


def read_request(call: Call) -> tuple[InferRequest, dict[str, list[str]]]:
    """The request, and the texts of each of its inputs. Refusal 400 for what is not well-formed."""
    length = call.headers.get(_HEADER, "")
    if length and not (length.isascii() and length.isdigit() and len(length) < 12 and int(length) <= len(call.body)):
        raise Refusal(400, f"The header {_HEADER} must be the length of the JSON in the body of {len(call.body)} bytes.")
    num_json = int(length) if length else len(call.body)
    asked = call.parse(InferRequest, call.body[:num_json])
    texts: dict[str, list[str]] = {}
    rest = memoryview(call.body)[num_json:]
    for tensor in asked.inputs:
        if tensor.name in texts:
            raise Refusal(400, f"There are two inputs {tensor.name!r}; give each name once.")
        if shared := sorted(name for name in tensor.parameters if name.startswith("shared_memory")):
            raise Refusal(400, f"{tensor.name}: shared memory is not taken ({shared[0]!r:.50}); send the texts as data or as binary data.")
        size = tensor.parameters.get("binary_data_size", 0)
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
            raise Refusal(400, f"{tensor.name}: binary_data_size must be a number of the {len(rest)} bytes that follow.")
        texts[tensor.name] = _texts(tensor, rest[:size])
        rest = rest[size:]
    for output in asked.outputs:
        if unknown := sorted(output.parameters.keys() - {"binary_data"}):
            raise Refusal(400, f"{output.name}: an output takes the parameter 'binary_data' only, not {unknown[0]!r:.50}; leave it out.")
    if rest:
        raise Refusal(400, f"{len(rest)} bytes follow the tensors that were announced.")
    return asked, texts


def write_response(asked: InferRequest, model: Model, outputs: Mapping[str, Any]) -> Response:
    """`outputs`: float32 arrays, or lists of strings. Refusal 400 for an output that the model does not have."""
    names = [output.name for output in asked.outputs] or list(outputs)
    if unknown := sorted(set(names) - set(outputs)):
        raise Refusal(400, f"There is no output {unknown[0]!r}; {model.name} has {', '.join(outputs)}.")
    is_binary = {output.name: output.parameters.get("binary_data", asked.parameters.get("binary_data_output")) for output in asked.outputs}
    parts: list[bytes] = []
    shown = []
    for name in names:
        values = outputs[name]
        tensor: dict[str, Any] = {"name": name, "datatype": datatype(values), "shape": list(np.shape(values))}
        if is_binary.get(name, asked.parameters.get("binary_data_output")) is True:
            parts.append(_bytes(values))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = values.ravel().tolist() if isinstance(values, np.ndarray) else values
        shown.append(tensor)
    reply = {"model_name": model.name, "model_version": VERSION, "outputs": shown} | ({"id": asked.id} if asked.id else {})
    if not parts:
        return json_reply(reply)
    head = to_json(reply, inf_nan_mode="null")
    return Response(b"".join([head, *parts]), headers={_HEADER: str(len(head))}, media_type="application/octet-stream")


def datatype(values: Any) -> str:
    return "FP32" if isinstance(values, np.ndarray) else "BYTES"


def _texts(tensor: InferInput, binary: memoryview) -> list[str]:
    if tensor.datatype != "BYTES":
        raise Refusal(400, f"{tensor.name} must be of the datatype BYTES, got {tensor.datatype[:20]!r}.")
    if (tensor.data is not None) == ("binary_data_size" in tensor.parameters):
        raise Refusal(400, f"{tensor.name} must have either data or a binary_data_size.")
    if tensor.data is not None:
        texts = [text if isinstance(text, str) else "".join(text) for text in tensor.data]
    else:
        texts = _decoded(tensor.name, binary)
    if not tensor.shape or tensor.shape[0] != len(texts) or tensor.shape[1:] not in ([], [1]):
        raise Refusal(400, f"{tensor.name} holds {len(texts)} texts; its shape must be [{len(texts)}] or [{len(texts)}, 1].")
    return texts


def _decoded(name: str, binary: memoryview) -> list[str]:
    """Each text is its length, 4 bytes little-endian, and so many bytes of UTF-8."""
    texts = []
    while binary:
        end = 4 + _LENGTH.unpack(binary[:4])[0] if len(binary) >= 4 else len(binary) + 1
        if end > len(binary):
            raise Refusal(400, f"{name}: the binary data ends inside of a text.")
        try:
            texts.append(str(binary[4:end], "utf-8"))
        except UnicodeDecodeError as error:
            raise Refusal(400, f"{name}: text {len(texts)} is not UTF-8.") from error
        binary = binary[end:]
    return texts


def _bytes(values: Any) -> bytes:
    if isinstance(values, np.ndarray):
        return values.astype("<f4").tobytes()
    return b"".join(_LENGTH.pack(len(text)) + text for text in (value.encode() for value in values))
