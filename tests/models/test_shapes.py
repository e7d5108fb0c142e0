"""Shapes count what the released models count, and students start where their recipe says."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, RobertaForMaskedLM

from robbertje_lib.corpus.tokenization import train_tokenizer
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Recipe, Shape, TeacherTraining, Tokenizer
from robbertje_lib.models.packed_attention import packing_of
from robbertje_lib.models.shapes import (
    build_student,
    decayed_parameters,
    decoder,
    freeze,
    head_features,
    hidden_states,
    parameter_count,
    random_model,
    save_model,
    student_config,
    teacher_config,
    weights_digest,
)
from tests.support.tiny_run import AS_PUBLISHED, FAST

PAPER_TEACHER = TeacherTraining(layers=12, heads=12, hidden=768, feed_forward=3072, tokens=1)
TEACHER = TeacherTraining(layers=3, heads=4, hidden=32, feed_forward=64, tokens=1)
SHAPE = Shape(layers=2, heads=4, feed_forward=64, teacher_layers=[0, 2])
NARROW = Shape(layers=1, heads=2, feed_forward=24, teacher_layers=[1])


@pytest.fixture
def teacher() -> RobertaForMaskedLM:
    return random_model(teacher_config(TEACHER, vocabulary=90, maximum_length=20), seed=1).eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(5, 90, (3, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        (Shape(layers=6, heads=12, feed_forward=3072), 74_276_416),
        (Shape(layers=4, heads=8, feed_forward=768), 45_935_680),
    ],
    ids=["distilbert", "bort"],
)
def test_paper_scale_students_have_the_released_models_parameters(shape: Shape, parameters: int) -> None:
    with torch.device("meta"):
        config = student_config(shape, teacher_config(PAPER_TEACHER, 40_000, 512), dropout=0.1)
        assert config.max_position_embeddings == 514
        assert parameter_count(RobertaForMaskedLM(config)) == parameters


def test_random_initialisation_comes_from_its_seed_alone(teacher: RobertaForMaskedLM) -> None:
    recipe = Recipe.model_validate(AS_PUBLISHED)
    before = torch.random.get_rng_state()
    first, second, other = (build_student(SHAPE, teacher, recipe, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert weights_digest(first) == weights_digest(second) != weights_digest(other)
    weight = first.roberta.encoder.layer[0].intermediate.dense.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not first.roberta.embeddings.position_embeddings.weight.requires_grad


def test_a_student_of_all_teacher_layers_is_the_teacher(teacher: RobertaForMaskedLM, ids: torch.Tensor) -> None:
    whole = Shape(layers=3, heads=4, feed_forward=64, teacher_layers=[0, 1, 2])
    student = build_student(whole, teacher, Recipe.model_validate(FAST), seed=1).eval()
    torch.testing.assert_close(student(ids).logits, teacher(ids).logits)
    assert student.roberta.embeddings.position_embeddings.weight.requires_grad


def test_layers_heads_and_neurons_are_taken_from_the_teacher(teacher: RobertaForMaskedLM) -> None:
    with torch.no_grad():
        teacher.roberta.encoder.layer[1].intermediate.dense.weight[50:] *= 10  # the strongest neurons by far
    student = build_student(NARROW, teacher, Recipe.model_validate(FAST), seed=1)
    source, target = teacher.roberta.encoder.layer[1], student.roberta.encoder.layer[0]
    assert torch.equal(target.attention.self.query.weight, source.attention.self.query.weight)
    assert torch.equal(target.intermediate.dense.weight[-14:], source.intermediate.dense.weight[50:])
    assert torch.equal(target.output.dense.weight[:, -14:], source.output.dense.weight[:, 50:])
    assert torch.equal(student.lm_head.dense.weight, teacher.lm_head.dense.weight)
    assert student.lm_head.decoder.weight is student.roberta.embeddings.word_embeddings.weight


@pytest.mark.parametrize("layers", [[], [3]])
def test_layers_the_teacher_lacks_are_refused(teacher: RobertaForMaskedLM, layers: list[int]) -> None:
    shape = Shape(layers=1, heads=4, feed_forward=64, teacher_layers=layers)
    with pytest.raises(UserError, match="name 1 of the teacher's layers 0 to 2"):
        build_student(shape, teacher, Recipe.model_validate(FAST), seed=1)


def test_causal_positions_do_not_see_what_follows(teacher: RobertaForMaskedLM, ids: torch.Tensor) -> None:
    row, changed = ids.flatten(), ids.flatten().clone()
    changed[19] = 6  # the eighth of the second sequence
    for causal in (True, False):
        before, after = (hidden_states(teacher, r, packing_of([12, 12, 12]), causal) for r in (row, changed))
        moved = (before - after).abs().amax(1).reshape(3, 12)
        assert (moved[[0, 2]] == 0).all()
        assert (moved[1, :7] == 0).all() == causal
        assert (moved[1, 7:] > 0).all()


def test_a_model_that_would_not_see_where_sequences_end_is_refused(
    teacher: RobertaForMaskedLM, ids: torch.Tensor
) -> None:
    teacher.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="attention is sdpa, not packed: call ready_for first"):
        hidden_states(teacher, ids.flatten(), packing_of([12, 12, 12]))


def test_head_in_two_steps_is_the_head(teacher: RobertaForMaskedLM, ids: torch.Tensor) -> None:
    features = head_features(teacher, hidden_states(teacher, ids.flatten(), packing_of([12, 12, 12])))
    weight, bias = decoder(teacher)
    torch.testing.assert_close(features @ weight.T + bias, teacher(ids).logits.flatten(0, 1))


def test_biases_and_layer_norms_do_not_decay(teacher: RobertaForMaskedLM) -> None:
    decayed, free = decayed_parameters(teacher)
    assert all(p.ndim == 2 for p in decayed) and all(p.ndim == 1 for p in free)
    assert len(decayed) + len(free) == len(list(teacher.parameters()))


def test_a_frozen_bfloat16_model_stays_near_itself(teacher: RobertaForMaskedLM, ids: torch.Tensor) -> None:
    exact = teacher(ids).logits
    freeze(teacher, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        rough = teacher(ids).logits
    assert not any(p.requires_grad for p in teacher.parameters())
    torch.testing.assert_close(rough.float(), exact, atol=0.02, rtol=0.02)


def test_a_saved_model_loads_anywhere(teacher: RobertaForMaskedLM, ids: torch.Tensor, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["een twee drie"], Tokenizer(kind="word", vocabulary=90, maximum_length=20))
    save_model(teacher, tokenizer, tmp_path / "model")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "model", use_safetensors=True).eval()
    torch.testing.assert_close(again(ids).logits, teacher(ids).logits)
    assert not list((tmp_path / "model").glob("*.bin"))
