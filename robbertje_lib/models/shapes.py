"""The models: RoBERTa in the teacher's and the students' shapes, run so that only what is needed is computed.

Shapes are those of the released models' configurations: `distilbert` (6 layers, 12 heads, 768, 3072) has
74,276,416 parameters and `bort` (4, 8, 768, 768) 45,935,680, both with 40,000 words.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from robbertje_lib.experiment.artefacts import atomic_path
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import HubTeacher, Recipe, Shape, TeacherTraining
from robbertje_lib.models.compiled import compile_layers
from robbertje_lib.models.packed_attention import PACKED, Packing
from robbertje_lib.models.quiet import quiet


def teacher_config(settings: TeacherTraining, vocabulary: int, maximum_length: int) -> RobertaConfig:
    """The configuration of a teacher we train ourselves; `maximum_length` counts special tokens."""
    return _config(settings, vocabulary, maximum_length, settings.hidden, settings.dropout)


def student_config(shape: Shape, teacher: RobertaConfig, dropout: float) -> RobertaConfig:
    """A student's configuration: vocabulary, hidden size and positions are the teacher's."""
    return _config(shape, teacher.vocab_size, teacher.max_position_embeddings - 2, teacher.hidden_size, dropout)


def _config(
    shape: Shape | TeacherTraining, vocabulary: int, maximum_length: int, hidden: int, dropout: float
) -> RobertaConfig:
    return RobertaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=maximum_length + 2,  # RoBERTa counts positions from pad_token_id + 1 = 2
        type_vocab_size=1,
        initializer_range=0.02,
        layer_norm_eps=1e-5,
        tie_word_embeddings=True,
        dtype="float32",
    )


def random_model(config: RobertaConfig, seed: int) -> RobertaForMaskedLM:
    """A model with weights drawn from N(0, 0.02) by a generator seeded with `seed`; global state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RobertaForMaskedLM._from_config(config, attn_implementation=PACKED)


def build_teacher(settings: TeacherTraining, tokenizer: PreTrainedTokenizerFast, seed: int) -> RobertaForMaskedLM:
    """An untrained teacher for `tokenizer`."""
    return random_model(teacher_config(settings, len(tokenizer), tokenizer.model_max_length), seed)


def build_student(shape: Shape, teacher: PreTrainedModel, recipe: Recipe, seed: int) -> RobertaForMaskedLM:
    """A student ready for training.

    `initialisation: random` draws all weights, as the released models did; `teacher_layers` copies the
    teacher's embeddings, LM head and the layers `shape.teacher_layers` (Sanh et al. 2019, section 3).
    `freeze_positions` leaves position embeddings as they are at the start.
    Raises `UserError` if teacher layers are wanted and the shape names none.
    """
    student = random_model(student_config(shape, teacher.config, recipe.dropout), seed)
    if recipe.initialisation == "teacher_layers":
        _copy_from_teacher(student, teacher, shape)
    if recipe.freeze_positions:
        student.roberta.embeddings.position_embeddings.weight.requires_grad_(False)
    return student


@torch.no_grad()
def _copy_from_teacher(student: RobertaForMaskedLM, teacher: PreTrainedModel, shape: Shape) -> None:
    layers = list(teacher.roberta.encoder.layer)
    if len(shape.teacher_layers) != shape.layers or max(shape.teacher_layers) >= len(layers):
        raise UserError(
            f"teacher_layers {shape.teacher_layers}: name {shape.layers} of the teacher's layers "
            f"0 to {len(layers) - 1}, or set the recipe's initialisation to random"
        )
    student.roberta.embeddings.load_state_dict(teacher.roberta.embeddings.state_dict())
    student.lm_head.load_state_dict(teacher.lm_head.state_dict())
    for target, index in zip(student.roberta.encoder.layer, shape.teacher_layers, strict=True):
        source = layers[index]
        # Attention projections have the same size whatever the number of heads: with fewer heads, neighbours merge.
        target.attention.load_state_dict(source.attention.state_dict())
        keep = _strongest_neurons(source, shape.feed_forward)
        target.intermediate.dense.weight[: len(keep)] = source.intermediate.dense.weight[keep]
        target.intermediate.dense.bias[: len(keep)] = source.intermediate.dense.bias[keep]
        target.output.dense.weight[:, : len(keep)] = source.output.dense.weight[:, keep]
        target.output.dense.bias.copy_(source.output.dense.bias)
        target.output.LayerNorm.load_state_dict(source.output.LayerNorm.state_dict())


def _strongest_neurons(layer: nn.Module, count: int) -> Tensor:
    """Feed-forward neurons with the largest product of input and output norm, in their own order: (count,) int64."""
    strength = layer.intermediate.dense.weight.norm(dim=1) * layer.output.dense.weight.norm(dim=0)
    return strength.topk(min(count, len(strength))).indices.sort().values


def hidden_states(model: PreTrainedModel, input_ids: Tensor, packing: Packing, causal: bool = False) -> Tensor:
    """Last hidden states (tokens, hidden) of sequences that lie in one row (tokens,); the head is left to the caller.

    With `causal` each token sees itself and what precedes it in its sequence. Raises `ValueError` for a model
    that attends otherwise than `ready_for` sets it: it would not see where sequences end.
    """
    if model.config._attn_implementation != PACKED:
        raise ValueError(f"attention is {model.config._attn_implementation}, not {PACKED}: call ready_for first")
    row = nn.functional.pad(input_ids, (0, packing.filler))
    states = model.roberta(row[None], position_ids=packing.position_ids, packing=packing, is_causal=causal)
    return states.last_hidden_state.squeeze(0)[: len(input_ids)]


def ready_for(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """`model` on `device`, with attention that keeps to each sequence of a row; its layers compiled where that pays."""
    model.set_attn_implementation(PACKED)
    return compile_layers(model.to(device), device)


def freeze(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A model that only runs forward: evaluation mode, weights of linear layers kept in `dtype`.

    Autocast would cast them anew at every call. The decoder gets a copy of its own; embeddings stay float32.
    """
    model.eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(module.weight.to(dtype), requires_grad=False)
            module.bias = nn.Parameter(module.bias.to(dtype), requires_grad=False)
    return model


def head_features(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The LM head up to its decoder, for selected positions: (positions, hidden) to (positions, hidden)."""
    head = model.lm_head
    return head.layer_norm(nn.functional.gelu(head.dense(hidden)))


def decoder(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """The LM head's decoder: weight (vocabulary, hidden), tied to the word embeddings, and bias (vocabulary,)."""
    return model.lm_head.decoder.weight, model.lm_head.decoder.bias


def parameter_count(model: nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of all parameters, by name."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def decayed_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters with and without weight decay; biases and LayerNorm weights have none."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    free = {name for name, _ in named if name.endswith("bias") or "layernorm" in name.lower().replace("_", "")}
    return [p for name, p in named if name not in free], [p for name, p in named if name in free]


def load_teacher(settings: TeacherTraining | HubTeacher, folder: Path) -> PreTrainedModel:
    """The teacher in evaluation mode: a released one at its revision, or ours from `folder`.

    Raises `UserError` if it cannot be loaded.
    """
    source, revision = (settings.hub, settings.revision) if isinstance(settings, HubTeacher) else (str(folder), None)
    try:
        with quiet():
            model, report = AutoModelForMaskedLM.from_pretrained(
                source,
                revision=revision,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=PACKED,
                output_loading_info=True,
            )
        if report["missing_keys"]:
            raise ValueError(f"no weights for {sorted(report['missing_keys'])[0]}")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"teacher: cannot load '{source}' ({error}); delete it and run `make reproduce` again, or check the name"
        ) from None
    return model.eval().requires_grad_(False)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model (safetensors) and tokenizer in the Hugging Face layout, whole or not at all."""
    with atomic_path(folder) as temporary, quiet():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
