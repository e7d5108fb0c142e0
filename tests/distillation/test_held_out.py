"""The pseudo-perplexity that is watched while a model trains is the one that is measured afterwards."""

from pathlib import Path

import pytest
import torch
from datasets import load_from_disk
from transformers import AutoModelForMaskedLM, AutoTokenizer

from robbertje_lib.distillation.held_out import HeldOut
from robbertje_lib.evaluation.pseudo_perplexity import pseudo_perplexity
from robbertje_lib.models.devices import Precision
from robbertje_lib.models.masked_lm import wrap
from robbertje_lib.models.shapes import ready_for
from tests.support.tiny_run import tiny_run


def test_held_out_pseudo_perplexity_is_that_of_the_evaluation(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "output")
    tokenizer = AutoTokenizer.from_pretrained(run.paths.tokenizer)
    teacher = AutoModelForMaskedLM.from_pretrained(run.paths.model("teacher"), use_safetensors=True)
    held_out = HeldOut(run.paths.held_out, tokenizer, seed=3)
    rows = {int(row) for batch in held_out.one_by_one for row in batch.rows}
    texts = load_from_disk(str(run.paths.held_out))["text"]
    scored = pseudo_perplexity(wrap(teacher, tokenizer, "teacher"), [texts[row] for row in sorted(rows)])
    assert 900 < len(scored.log_prob) < 1200
    ours = held_out.pseudo_perplexity(ready_for(teacher, torch.device("cpu")), Precision("fp32"))
    assert ours == pytest.approx(scored.summary().corpus, rel=1e-5)
