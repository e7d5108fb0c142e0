"""One `as_published` forward pass, written for reading and not for speed.

It follows the code that made the released models (Hugging Face distillation scripts, `distiller.py`): full
logits of teacher and student, then the real tokens' rows of both.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class ReferenceLoss(NamedTuple):
    loss: Tensor
    kl: Tensor
    mlm: Tensor
    cosine: Tensor


def reference_loss(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    input_ids: Tensor,  # (sequences, length), masked
    attention_mask: Tensor,  # (sequences, length), 1 at real tokens
    labels: Tensor,  # (sequences, length), -100 where nothing is predicted
    temperature: float = 2.0,
    weight_kl: float = 5.0,
    weight_mlm: float = 2.0,
    weight_cosine: float = 1.0,
    restrict_to_mask: bool = False,
) -> ReferenceLoss:
    """The weighted loss and its parts, each averaged over this batch."""
    student_out = student(input_ids, attention_mask=attention_mask, output_hidden_states=True)
    with torch.no_grad():
        teacher_out = teacher(input_ids, attention_mask=attention_mask, output_hidden_states=True)
    chosen = labels > -1 if restrict_to_mask else attention_mask.bool()
    student_logits, teacher_logits = student_out.logits[chosen], teacher_out.logits[chosen]
    kl = temperature**2 * nn.functional.kl_div(
        nn.functional.log_softmax(student_logits / temperature, dim=-1),
        nn.functional.softmax(teacher_logits / temperature, dim=-1),
        reduction="batchmean",
    )
    mlm = nn.functional.cross_entropy(student_out.logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    real = attention_mask.bool()
    student_hidden, teacher_hidden = student_out.hidden_states[-1][real], teacher_out.hidden_states[-1][real]
    cosine = nn.functional.cosine_embedding_loss(
        student_hidden, teacher_hidden, student_hidden.new_ones(len(student_hidden)), reduction="mean"
    )
    return ReferenceLoss(weight_kl * kl + weight_mlm * mlm + weight_cosine * cosine, kl, mlm, cosine)
