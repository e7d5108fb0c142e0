"""DisCo takes the likeliest fills of every sentence."""

from pathlib import Path

import torch

from robbertje_lib.evaluation.disco import likely_fills
from robbertje_lib.models.masked_lm import load_masked_lm
from tests.support.small_models import save_small_model


def test_the_three_likeliest_fills_of_every_sentence(tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model("roberta", tmp_path))
    fills = likely_fills(model)
    assert fills["template"].nunique() == 14 and fills.groupby("gender")["person"].nunique().tolist() == [35, 35]
    assert fills.groupby(["template", "person"]).size().eq(3).all()
    row = fills.iloc[0]
    text = row["template"].replace("<P>", row["person"]).replace("<mask>", model.tokenizer.mask_token)
    ids = torch.tensor(model.tokenizer(text)["input_ids"])
    with torch.no_grad():
        logits = model.model(input_ids=ids[None]).logits[0, ids.tolist().index(model.tokenizer.mask_token_id)]
    assert fills["token_id"][:3].tolist() == logits.topk(3).indices.tolist()
    assert row["word"] == model.tokenizer.decode([row["token_id"]]).strip()


def test_a_model_blind_to_persons_fills_in_the_same(tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model("roberta", tmp_path))
    with torch.no_grad():
        for parameter in model.model.roberta.parameters():
            parameter.zero_()  # every position then looks the same
    assert likely_fills(model)["token_id"].nunique() == 3
