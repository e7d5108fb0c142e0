"""The floating-point operations of a distillation's matrix products, which is what a share of peak is counted in.

Two a multiply-add; of real tokens only: what padding costs is lost. Embeddings, norms and softmax are left out.
"""

import numpy as np
from transformers import RobertaConfig

# Dense bfloat16, floating-point operations a second, of what large products reach rather than of the data sheet for
# Hopper (989e12); NVIDIA's for the other. By what the device's name holds.
PEAKS = {"H100": 790e12, "H200": 790e12, "A100": 312e12}


def peak_of(gpu: str) -> float | None:
    """The peak of the GPU of this name, None where it is not known."""
    return next((peak for name, peak in PEAKS.items() if name in gpu), None)


def body(config: RobertaConfig, lengths: np.ndarray) -> float:
    """One forward pass through the layers, for sequences of these `lengths`."""
    hidden, tokens = config.hidden_size, float(lengths.sum())
    products = 4 * hidden**2 + 2 * hidden * config.intermediate_size
    attention = 2 * hidden * float((lengths.astype(np.float64) ** 2).sum())
    return 2 * config.num_hidden_layers * (tokens * products + attention)


def head(config: RobertaConfig, positions: float) -> float:
    """One forward pass through the language-model head at so many positions."""
    return 2 * positions * config.hidden_size * (config.hidden_size + config.vocab_size)


def update(student: RobertaConfig, teacher: RobertaConfig, lengths: np.ndarray, predicted: float) -> float:
    """Forward and backward of the student, forward of the teacher; `predicted`: positions where KL is computed."""
    forward = body(student, lengths) + head(student, predicted)
    return 3 * forward + body(teacher, lengths) + head(teacher, predicted)
