"""The sizes of a student, as its config.json holds them."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PretrainedConfig

from trtbert.architectures import STUDENT

Kind = Literal["cnn-bilstm", "bilstm", "attentive-bilstm"]


@strict
class StudentConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """A bidirectional LSTM over word pieces; raises ValueError for sizes that no model can have."""

    model_type = STUDENT

    kind: Kind = "bilstm"
    """cnn-bilstm: a convolution over the characters of each piece is read beside its embedding. attentive-bilstm: a text is the sum of
    its tokens weighted by attention, and not the last states of the LSTM."""
    vocab_size: int = 30522
    embedding_size: int = 300
    hidden_size: int = 150
    """Of the LSTM in one direction: the state of a token has twice as many numbers."""
    num_hidden_layers: int = 1
    fc_size: int = 0
    """Of a layer with ReLU before the classifier of texts; 0: there is none."""
    output_size: int = 0
    """Of a last linear layer over the states of the tokens; 0: there is none."""
    num_characters: int = 0
    """Different ones, with the padding; of a cnn-bilstm."""
    piece_length: int = 0
    """Characters of a piece that are read; of a cnn-bilstm."""
    char_embedding_size: int = 16
    char_filters: int = 128
    dropout: float = 0.1
    max_position_embeddings: int = 512
    """The longest text that the teacher takes: an LSTM by itself has no limit."""
    pad_token_id: int | None = 0

    def __post_init__(self, **options: object) -> None:
        super().__post_init__(**options)  # type: ignore[no-untyped-call]
        optional = ("fc_size", "output_size") if self.kind == "cnn-bilstm" else (*_CHARACTERS, "fc_size", "output_size")
        for name in (*_CHARACTERS, "fc_size", "output_size", "char_embedding_size", "char_filters"):
            least = 0 if name in optional else 1
            if not least <= getattr(self, name) <= _MAX_SIZE:
                raise ValueError(f"{name} of a {self.kind} must be from {least} to {_MAX_SIZE}, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a share from 0 to less than 1, got {self.dropout}")


_CHARACTERS = ("num_characters", "piece_length")
_MAX_SIZE = 2**24
