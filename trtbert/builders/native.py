"""What LayerNorms, GELUs and embeddings become in the ops that runtimes know: ONNX's own, and ONNX Runtime's contrib ops.

Every public function records its nodes on the site's tape and gives their result; None, with nothing recorded, where they do not fit.
"""

import onnx_ir as ir

from trtbert.builders.site import CONTRIB, ORT_FLOAT, Attributes, Site


def skip_layer_norm(site: Site) -> ir.Value | None:
    """Sum, then LayerNormalization.

    Sum, for ONNX Runtime makes Add and LayerNormalization one SkipLayerNormalization, whose CPU kernel takes three times as long.
    """
    if not site.has_types(ORT_FLOAT, 0, 1, 2, 3, 4):
        return None
    bias = site.input(4)
    total = site.op("Sum", site.required(0), site.required(1), *(() if bias is None else (bias,)))
    return _layer_norm(site, total, 2, 3)


def contrib_skip_layer_norm(site: Site) -> ir.Value | None:
    if not site.has_types(ORT_FLOAT, 0, 1, 2, 3, 4):
        return None
    return site.op("SkipLayerNormalization", *site.node.inputs, attributes={"epsilon": site.epsilon}, domain=CONTRIB)


def bias_gelu(site: Site) -> ir.Value | None:
    if not site.has_types(ORT_FLOAT, 0, 1):
        return None
    total = site.op("Add", site.required(0), site.required(1))
    return site.op("Gelu", total, attributes={"approximate": site.node.attributes["approximate"].as_string()})


def contrib_bias_gelu(site: Site) -> ir.Value | None:
    """ONNX Runtime's BiasGelu is the exact GELU."""
    return _contrib_gelu(site, "BiasGelu", "none")


def contrib_fast_gelu(site: Site) -> ir.Value | None:
    """ONNX Runtime's FastGelu is the tanh GELU."""
    return _contrib_gelu(site, "FastGelu", "tanh")


def embed_layer_norm(site: Site) -> ir.Value | None:
    """Gathers, Sum and LayerNormalization (Sum for the reason that skip_layer_norm gives)."""
    if not site.has_types(ORT_FLOAT, 2, 3, 4, 5, 7):
        return None
    parts = [site.op("Gather", site.required(table), site.required(ids)) for ids, table in ((0, 2), (1, 3))]
    if site.input(6) is not None:
        parts.append(site.op("Gather", site.required(7), site.required(6)))
    return _layer_norm(site, site.op("Sum", *parts), 4, 5)


def contrib_embed_layer_norm(site: Site) -> ir.Value | None:
    if site.required(2).const_value is None:  # in INT8
        return None
    if not site.has_types(ORT_FLOAT, 2, 3, 4, 5, 7) or not site.has_types((ir.DataType.INT32,), 0, 6):
        return None
    position_ids = site.op("Cast", site.required(1), attributes={"to": ir.DataType.INT32})
    inputs = [site.input(i) for i in (0, 6, 2, 3, 7, 4, 5)] + [None, position_ids]
    y, _ = site.tape.op_multi_out("EmbedLayerNormalization", inputs, {"epsilon": site.epsilon}, num_outputs=2, domain=CONTRIB)
    return y


def _layer_norm(site: Site, total: ir.Value, gamma: int, beta: int) -> ir.Value:
    attributes: Attributes = {"axis": -1, "epsilon": site.epsilon}
    return site.op("LayerNormalization", total, site.required(gamma), site.required(beta), attributes=attributes)


def _contrib_gelu(site: Site, op_type: str, approximate: str) -> ir.Value | None:
    if site.node.attributes["approximate"].as_string() != approximate or not site.has_types(ORT_FLOAT, 0, 1):
        return None
    return site.op(op_type, *site.node.inputs, domain=CONTRIB)
