"""Facts of each supported model family, as data: what of it must fuse, and how it is exported."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One family, by its Hugging Face model_type."""

    has_token_type_ids: bool
    """Whether the model reads token_type_ids with more than one type by default."""
    has_sdpa: bool = True
    unfused: frozenset[str] = frozenset()
    """Fused ops that cannot apply to this family; a miss of any other is an error."""


_ROBERTA = Architecture(has_token_type_ids=False)

ARCHITECTURES: dict[str, Architecture] = {
    "albert": Architecture(has_token_type_ids=True),
    "bert": Architecture(has_token_type_ids=True),
    "camembert": _ROBERTA,
    "deberta-v2": Architecture(
        has_token_type_ids=False, has_sdpa=False, unfused=frozenset({"FusedQkvAttention", "FusedEmbedLayerNorm"})
    ),
    "distilbert": Architecture(has_token_type_ids=False),
    "electra": Architecture(has_token_type_ids=True),
    "modernbert": Architecture(
        has_token_type_ids=False,
        unfused=frozenset({"FusedQkvAttention", "FusedEmbedLayerNorm", "FusedSkipLayerNorm", "FusedBiasGelu"}),
    ),
    "mpnet": Architecture(has_token_type_ids=False, has_sdpa=False),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
