"""Facts of each supported model family, as data: what of it must fuse, and how it is exported."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One family, by its Hugging Face model_type."""

    has_sdpa: bool = True
    """Whether transformers computes its attention by torch's scaled_dot_product_attention; else it is exported eager."""
    unfused: Mapping[str, str] = field(default_factory=dict)
    """Fused ops that cannot apply to this family, with the reason; a miss of any other is an error."""


STUDENT = "trtbert-student"
"""The model_type of our own recurrent students, which transformers does not know."""

ARCHITECTURES: dict[str, Architecture] = {
    "albert": Architecture(),
    "bert": Architecture(),
    "camembert": Architecture(),
    "deberta-v2": Architecture(
        has_sdpa=False,
        unfused={
            "FusedQkvAttention": "the position terms of deberta-v2's scores depend on the query and the key",
            "FusedEmbedLayerNorm": "deberta-v2 has no position embedding, and masks its embeddings after the LayerNorm",
        },
    ),
    "distilbert": Architecture(),
    "electra": Architecture(),
    "modernbert": Architecture(
        unfused={
            "FusedQkvAttention": "modernbert rotates the query and the key by their positions",
            "FusedEmbedLayerNorm": "modernbert has no position embedding",
            "FusedSkipLayerNorm": "modernbert has its LayerNorms before the sub-layers, and no bias in them",
            "FusedBiasGelu": "modernbert multiplies its GELU with a gate, and has no bias before it",
        },
    ),
    "mpnet": Architecture(has_sdpa=False),
    "roberta": Architecture(),
    STUDENT: Architecture(
        has_sdpa=False,
        unfused={
            "FusedQkvAttention": "a student is an LSTM, and has no attention between tokens",
            "FusedEmbedLayerNorm": "a student has neither position embedding nor LayerNorm",
            "FusedSkipLayerNorm": "a student has no LayerNorm",
            "FusedBiasGelu": "a student has no GELU",
        },
    ),
    "xlm-roberta": Architecture(),
}
