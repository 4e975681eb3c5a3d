"""What a student learns from a teacher: pure functions of both models' tensors, each a mean over the examples of a batch.

Legend: B examples, S sequence, L labels, D and E hidden sizes of student and teacher, N heads, H head size, K layers that are matched.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional


def hinton(student_BL: torch.Tensor, teacher_BL: torch.Tensor, temperature: float, mask_B: torch.Tensor | None = None) -> torch.Tensor:
    """T^2 KL(teacher || student) of the softmaxes of logits / T, the mean over the rows (Hinton, Vinyals and Dean, 2015).

    T^2 keeps the size of the gradient, which falls by 1/T^2. Rows are examples, or tokens [B,S,L] with a mask [B,S] that leaves padding
    out. Logits may be -infinity in both, as those of padding are.
    """
    log_student = functional.log_softmax(student_BL / temperature, -1)
    log_teacher = functional.log_softmax(teacher_BL / temperature, -1)
    terms = log_teacher.exp() * (log_teacher - log_student)
    divergence_B = temperature**2 * terms.masked_fill(log_teacher == -torch.inf, 0).sum(-1)
    return _mean(divergence_B, mask_B)


def logits_mse(student_BL: torch.Tensor, teacher_BL: torch.Tensor, mask_B: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over rows and labels of the squared difference of the logits (Ba and Caruana, 2014; Tang et al., 2019)."""
    return _mean((student_BL - teacher_BL).square().mean(-1), mask_B)


def soft_cross_entropy(student_BL: torch.Tensor, teacher_BL: torch.Tensor, mask_B: torch.Tensor | None = None) -> torch.Tensor:
    """TinyBERT's prediction loss: - sum over labels of softmax(teacher) log softmax(student), the mean over the rows."""
    return _mean(-(functional.softmax(teacher_BL, -1) * functional.log_softmax(student_BL, -1)).sum(-1), mask_B)


def cosine(student_BSD: torch.Tensor, teacher_BSD: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
    """1 - cosine of the hidden states, the mean over the tokens (DistilBERT)."""
    return _mean(1 - functional.cosine_similarity(student_BSD, teacher_BSD, dim=-1), mask_BS)


def hidden_mse(student_BSD: torch.Tensor, teacher_BSD: torch.Tensor, mask_BS: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over tokens and dimensions of the squared difference; the student's states have been projected to the teacher's size."""
    return _mean((student_BSD - teacher_BSD).square().mean(-1), mask_BS)


def attention_mse(student_BNSS: torch.Tensor, teacher_BNSS: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
    """TinyBERT's attention loss: the mean squared difference of the scores BEFORE the softmax, 0 in both where a key is padding.

    The mean is over everything, padded queries left out. Both models must have as many heads.
    """
    is_key = mask_BS[:, None, None, :] != 0
    student, teacher = (scores.masked_fill(~is_key, 0) for scores in (student_BNSS, teacher_BNSS))
    return _mean((student - teacher).square().mean((1, 3)), mask_BS)


def patient(student_KBD: Sequence[torch.Tensor], teacher_KBD: Sequence[torch.Tensor]) -> torch.Tensor:
    """Patient KD: squared distance of the normalised vectors of matched layers, summed over the dimensions, the mean over B and K.

    The released code takes the mean over the dimensions too, which is D times smaller.
    """
    pairs = zip(student_KBD, teacher_KBD, strict=True)
    distances = [(functional.normalize(s, dim=-1) - functional.normalize(t, dim=-1)).square().sum(-1).mean() for s, t in pairs]
    return torch.stack(distances).mean()


def relation(student_BSD: torch.Tensor, teacher_BSE: torch.Tensor, mask_BS: torch.Tensor, num_heads: int) -> torch.Tensor:
    """MiniLMv2: KL of the softmaxes of the scaled products of one kind of vectors (queries, keys or values) with themselves.

    Both are split into `num_heads` relation heads, whatever heads the models have; the mean is over tokens and relation heads.
    """
    student, teacher = (_log_relation(vectors, mask_BS, num_heads) for vectors in (student_BSD, teacher_BSE))
    terms = (teacher.exp() * (teacher - student)).masked_fill(mask_BS[:, None, None, :] == 0, 0)
    return _mean(terms.sum(-1).mean(1), mask_BS)


def _log_relation(vectors_BSD: torch.Tensor, mask_BS: torch.Tensor, num_heads: int) -> torch.Tensor:
    """[B,R,S,S]"""
    split_BRSH = vectors_BSD.view(*vectors_BSD.shape[:2], num_heads, -1).transpose(1, 2)
    products = split_BRSH @ split_BRSH.transpose(-1, -2) / split_BRSH.shape[-1] ** 0.5
    return functional.log_softmax(products.masked_fill(mask_BS[:, None, None, :] == 0, -torch.inf), -1)


def _mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Over all, or over those that the mask (of the same shape) keeps."""
    if mask is None:
        return values.mean()
    kept = mask != 0
    return values.masked_fill(~kept, 0).sum() / kept.sum().clamp(min=1)
