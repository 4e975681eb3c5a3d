"""Padded rows of vectors -> the states of a bidirectional LSTM that never sees the padding.

torch computes it from packed sequences. An exported graph has ONNX's LSTM with the length of each row, which is the same: the way back
starts at the last token of a row, and what follows it is zero.
Legend: B batch, S sequence, D input, H hidden, E = 2H.
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

_LSTM_OPSET = 22
"""The latest version of ONNX's LSTM that opset 23 holds."""


class BiLstm(nn.Module):
    """One layer."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, x_BSD: torch.Tensor, lengths_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B,S,E], and [B,E]: the last state of the way forth and of the way back. Each row begins with its tokens, one or more."""
        if torch.compiler.is_exporting():
            return self._as_onnx(x_BSD, lengths_B)
        packed = pack_padded_sequence(x_BSD, lengths_B.cpu(), batch_first=True, enforce_sorted=False)
        states, (last_2BH, _) = self.lstm(packed)
        states_BSE, _ = pad_packed_sequence(states, batch_first=True, total_length=x_BSD.shape[1])
        return states_BSE, last_2BH.transpose(0, 1).flatten(1)

    def _as_onnx(self, x_BSD: torch.Tensor, lengths_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, (batch, length, _) = self.lstm.hidden_size, x_BSD.shape
        states_S2BH, last_2BH, _ = torch.onnx.ops.symbolic_multi_out(
            "LSTM",
            [x_BSD.transpose(0, 1), self._both("weight_ih"), self._both("weight_hh"), self._biases(), lengths_B.to(torch.int32)],
            {"direction": "bidirectional", "hidden_size": hidden},
            dtypes=[x_BSD.dtype] * 3,
            shapes=[[length, 2, batch, hidden], [2, batch, hidden], [2, batch, hidden]],
            version=_LSTM_OPSET,
        )
        states_BSE = states_S2BH.permute(2, 0, 1, 3).reshape(batch, length, 2 * hidden)
        return states_BSE, last_2BH.transpose(0, 1).reshape(batch, 2 * hidden)

    def _both(self, name: str) -> torch.Tensor:
        """[2,4H,...]: of both directions."""
        directions = (f"{name}_l0", f"{name}_l0_reverse")
        return torch.stack([_onnx_order(getattr(self.lstm, direction), self.lstm.hidden_size) for direction in directions])

    def _biases(self) -> torch.Tensor:
        """[2,8H]: those of the inputs, then those of the states."""
        return torch.cat([self._both("bias_ih"), self._both("bias_hh")], dim=1)


def _onnx_order(gates: torch.Tensor, hidden: int) -> torch.Tensor:
    """torch has the gates input, forget, cell, output; ONNX input, output, forget, cell."""
    return torch.cat([gates[:hidden], gates[3 * hidden :], gates[hidden : 3 * hidden]])
