"""Damaged model files end in one line that names the folder and what to do."""

from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from robbertje_lib.corpus.novels import read_novel
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TeacherTraining
from robbertje_lib.models.masked_lm import load_masked_lm
from robbertje_lib.models.shapes import load_teacher
from tests.support.small_models import save_small_model

TEACHER = TeacherTraining(layers=1, heads=1, hidden=8, feed_forward=8, tokens=1)


@pytest.mark.parametrize("damage", ["half", "empty", "noise"])
def test_damaged_weights_are_named(tmp_path: Path, damage: str) -> None:
    folder = save_small_model("roberta", tmp_path / "model")
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes({"half": content[: len(content) // 2], "empty": b"", "noise": b"x" * 1000}[damage])
    for load in (load_masked_lm, lambda folder: load_teacher(TEACHER, folder)):
        with pytest.raises(UserError, match="delete it and run `make reproduce` again") as error:
            load(folder)
        assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_teacher_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    folder = save_small_model("roberta", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.dense.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"no weights for lm_head\.dense\.weight.* delete it and run"):
        load_teacher(TEACHER, folder)


@pytest.mark.parametrize("encoding", ["idna", "punycode", "undefined", "rot13", "base64", "a\0b"])
def test_a_novel_in_a_codec_that_is_not_for_text_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "huis.txt"
    path.write_bytes(f"Character set encoding: {encoding}\n".encode() + b"\xff x" * 100)
    with pytest.raises(UserError, match=r"huis.txt: .*; delete it") as error:
        list(read_novel(path, Counter()))
    assert "\n" not in str(error.value)
