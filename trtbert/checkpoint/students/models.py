"""Word pieces and their mask -> the states of a student's tokens, or the logits of its task, as transformers' models give them.

They take token types, as a teacher's inputs have them, and do not read them. The tokens that the mask keeps are moved to the front of
their row, and back at the end, so that padding anywhere changes nothing.
Legend: B batch, S sequence, E = 2H states of both directions, L labels.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput, TokenClassifierOutput

from trtbert.checkpoint.students.bilstm import BiLstm
from trtbert.checkpoint.students.config import StudentConfig
from trtbert.checkpoint.students.embeddings import Embeddings


@dataclass(frozen=True, eq=False)
class Encoded:
    """The states of each row's tokens, which begin the row."""

    states_BSE: torch.Tensor
    last_BE: torch.Tensor
    """Of the last token on the way forth, and of the first one on the way back."""
    lengths_B: torch.Tensor


class Student(PreTrainedModel):  # type: ignore[no-untyped-call]
    """What the classes of all tasks share."""

    config_class = StudentConfig
    base_model_prefix = "student"

    def encoder(self) -> "StudentModel":
        """The part below the head of the task."""
        below = self.base_model
        assert isinstance(below, StudentModel)
        return below

    def _init_weights(self, module: Any) -> None:
        """What the constructors drew stays."""


class StudentModel(Student):  # type: ignore[no-untyped-call]
    """The encoder."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        width = 2 * config.hidden_size
        inputs = [self.embeddings.size] + [width] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(BiLstm(size, config.hidden_size) for size in inputs)
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(width, config.output_size) if config.output_size else nn.Identity()
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def encode(self, ids_BS: torch.Tensor, places_BS: torch.Tensor, mask_BS: torch.Tensor) -> Encoded:
        """`places_BS` are those of `front`."""
        ids_BS = ids_BS.to(torch.int64)
        x = self.embeddings(torch.zeros_like(ids_BS).scatter(1, places_BS, ids_BS))
        lengths_B = (mask_BS != 0).sum(1).clamp(min=1)  # a row of padding alone is read as one token
        last_BE = x[:, 0]
        for layer in self.layers:
            x, last_BE = layer(x, lengths_B)
            x = self.dropout(x)
        return Encoded(x, last_BE, lengths_B)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> BaseModelOutput:
        places_BS = front(attention_mask)
        states_BSE = self.encode(input_ids, places_BS, attention_mask).states_BSE
        in_place_BSE = states_BSE.gather(1, places_BS[:, :, None].expand(-1, -1, states_BSE.shape[-1]))
        return BaseModelOutput(last_hidden_state=self.projection(in_place_BSE))


class StudentForTokenClassification(Student):  # type: ignore[no-untyped-call]
    """A linear layer over the states of each token."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.student = StudentModel(config)
        self.classifier = nn.Linear(config.output_size or 2 * config.hidden_size, config.num_labels or 1)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> TokenClassifierOutput:
        states_BSE = self.student(input_ids, attention_mask).last_hidden_state
        return TokenClassifierOutput(logits=self.classifier(states_BSE))


class StudentForSequenceClassification(Student):  # type: ignore[no-untyped-call]
    """The last states of both directions, or a sum of all weighted by attention, and one or two linear layers over them."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.student = StudentModel(config)
        width = 2 * config.hidden_size
        self.attention = AttentionPooling(width) if config.kind == "attentive-bilstm" else None
        self.fc = nn.Sequential(nn.Linear(width, config.fc_size), nn.ReLU()) if config.fc_size else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.fc_size or width, config.num_labels or 1)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> SequenceClassifierOutput:
        encoded = self.student.encode(input_ids, front(attention_mask), attention_mask)
        text_BE = encoded.last_BE if self.attention is None else self.attention(encoded)[0]
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(self.fc(text_BE))))


class AttentionPooling(nn.Module):
    """sum_s a_s h_s, where a = softmax over the tokens of a row of v . tanh(W h_s)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
        """[B,E], and the weights [B,S], which are zero after the tokens."""
        states_BSE = encoded.states_BSE
        scores_BS = self.score(torch.tanh(self.hidden(states_BSE)))[:, :, 0]
        is_padding_BS = torch.arange(states_BSE.shape[1], device=states_BSE.device) >= encoded.lengths_B[:, None]
        weights_BS = scores_BS.masked_fill(is_padding_BS, -torch.inf).softmax(-1)
        return (weights_BS[:, :, None] * states_BSE).sum(1), weights_BS


def front(mask_BS: torch.Tensor) -> torch.Tensor:
    """Where each position goes when the kept ones move to the front of their row and the others behind them, each in their order."""
    kept_BS = (mask_BS != 0).to(torch.int64)
    behind_BS = kept_BS.sum(1, keepdim=True) + (1 - kept_BS).cumsum(1)
    return torch.where(kept_BS != 0, kept_BS.cumsum(1), behind_BS) - 1
