"""Ids of word pieces -> vectors: the row of each piece in a table, and what a convolution makes of its characters.

Legend: B batch, S sequence, V vocabulary, C characters of a piece, D embedding, F filters.
"""

from collections.abc import Sequence

import torch
from torch import nn

from trtbert.checkpoint.students.config import StudentConfig

_DEVIATION = 0.1
_KERNEL = 3


class Embeddings(nn.Module):
    """A table of pieces; of a cnn-bilstm the characters beside it."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        nn.init.normal_(self.word_embeddings.weight, std=_DEVIATION)
        self.characters = CharCnn(config) if config.kind == "cnn-bilstm" else None
        self.dropout = nn.Dropout(config.dropout)

    @property
    def size(self) -> int:
        return self.word_embeddings.embedding_dim + (0 if self.characters is None else self.characters.convolution.out_channels)

    def forward(self, ids_BS: torch.Tensor) -> torch.Tensor:
        """[B,S,D] or [B,S,D+F]"""
        x_BSD: torch.Tensor = self.word_embeddings(ids_BS)
        if self.characters is not None:
            x_BSD = torch.cat([x_BSD, self.characters(ids_BS)], dim=-1)
        dropped: torch.Tensor = self.dropout(x_BSD)
        return dropped


class CharCnn(nn.Module):
    """The largest answer of each filter to the characters of a piece, which a table gives for its id."""

    table_VC: torch.Tensor

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.register_buffer("table_VC", torch.zeros(config.vocab_size, config.piece_length, dtype=torch.int32))
        self.char_embeddings = nn.Embedding(config.num_characters, config.char_embedding_size)
        self.convolution = nn.Conv1d(config.char_embedding_size, config.char_filters, _KERNEL, padding=_KERNEL // 2)

    def forward(self, ids_BS: torch.Tensor) -> torch.Tensor:
        """[B,S,F]"""
        batch, length = ids_BS.shape
        chars_TCD = self.char_embeddings(self.table_VC[ids_BS.reshape(-1)])
        answers_TFC: torch.Tensor = self.convolution(chars_TCD.transpose(1, 2))
        return answers_TFC.amax(-1).reshape(batch, length, -1)


def character_table(pieces: Sequence[str], piece_length: int) -> tuple[torch.Tensor, int]:
    """The ids of the first characters of each piece, 0 after its end [V,C]; and how many ids there are."""
    numbers = {character: index for index, character in enumerate(sorted(set("".join(pieces))), 1)}
    rows = [[numbers[character] for character in piece[:piece_length]] for piece in pieces]
    return torch.tensor([row + [0] * (piece_length - len(row)) for row in rows], dtype=torch.int32), len(numbers) + 1
