import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from robbertje_lib.experiment.profile import Shape, TeacherTraining
from robbertje_lib.models.shapes import build_student, random_model, teacher_config
from tests.benchmarks import flops
from tests.benchmarks.bench_distillation import RECIPE
from tests.support.published_batch import padded
from tests.support.reference_step import reference_loss

VOCABULARY, SEQUENCES, LENGTH = 60, 3, 16


def test_the_count_is_that_of_pytorch() -> None:
    settings = TeacherTraining(layers=3, heads=2, hidden=16, feed_forward=40, tokens=1)
    teacher = random_model(teacher_config(settings, VOCABULARY, 32), seed=0).eval().requires_grad_(False)
    student = build_student(Shape(layers=2, heads=2, feed_forward=24), teacher, RECIPE, seed=1)
    # Fused attention is not counted on a CPU, or does products a second time in its backward pass.
    for model in (teacher, student):
        model.set_attn_implementation("eager")
    tokens = torch.arange(SEQUENCES * LENGTH) % (VOCABULARY - 5) + 5
    batch = padded(tokens, tokens, [LENGTH] * SEQUENCES)
    with FlopCounterMode(display=False) as counted:
        reference_loss(student, teacher, *batch).loss.backward()
    wanted = flops.update(student.config, teacher.config, np.full(SEQUENCES, LENGTH), SEQUENCES * LENGTH)
    assert counted.get_total_flops() == wanted


def test_a_peak_is_known_by_the_name_of_the_device() -> None:
    assert flops.peak_of("NVIDIA H200") == 790e12 and flops.peak_of("NVIDIA A100-SXM4-80GB") == 312e12
    assert flops.peak_of("an unknown one") is None
