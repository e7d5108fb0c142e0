"""CrowS-Pairs scores shared tokens only."""

from difflib import SequenceMatcher
from pathlib import Path

import pytest
import torch

from robbertje_lib.evaluation.crows_pairs import Pair, load_pairs, read_pairs, score_pairs
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.masked_lm import load_masked_lm
from tests.support.small_models import FAMILIES, save_small_model

PAIR = Pair("1", "Hij is een dokter.", "Zij is een dokter.", "stereo", "gender")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_only_shared_tokens_are_masked_one_at_a_time(family: str, tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model(family, tmp_path))
    expected = []
    more, less = (model.tokenizer(text)["input_ids"] for text in (PAIR.more, PAIR.less))
    blocks = SequenceMatcher(None, more, less, autojunk=False).get_matching_blocks()
    for side, ids in enumerate((more, less)):
        total, starts = 0.0, [(b.a, b.b)[side] for b in blocks]
        for start, block in zip(starts, blocks, strict=True):
            for position in range(start, start + block.size):
                if position in (0, len(ids) - 1):
                    continue
                masked = torch.tensor([ids])
                masked[0, position] = model.tokenizer.mask_token_id
                with torch.no_grad():
                    total += float(model.model(input_ids=masked).logits[0, position].log_softmax(0)[ids[position]])
        expected.append(total)
    row = score_pairs(model, [PAIR]).iloc[0]
    assert [row["more"], row["less"]] == pytest.approx(expected, abs=1e-4)
    assert 0 < row["shared"] < len(more) - 2


def test_equal_pairs_tie_and_long_ones_are_skipped(tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model("roberta", tmp_path))
    pairs = [
        PAIR,
        Pair("2", PAIR.more, PAIR.more, "stereo", "gender"),
        Pair("3", "hij " * 80, "zij " * 80, "stereo", "gender"),
    ]
    scores = score_pairs(model, pairs)
    assert scores["skipped"].tolist() == [False, False, True]
    assert (scores["more"] == scores["less"]).tolist() == [False, True, False]
    assert scores.loc[2, ["more", "less"]].isna().all()


@pytest.mark.parametrize(
    "content, message",
    [
        ("id,a,b\n1,x,y\n", "line 1: expected the columns"),
        ("id,sent_more,sent_less,stereo_antistereo,bias_type\n1,x,,stereo,gender\n", "line 2: expected 5 filled"),
        ("id,sent_more,sent_less,stereo_antistereo,bias_type\n1,x,y,stereo,gender,more\n", "line 2: expected 5 filled"),
    ],
)
def test_malformed_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(content, encoding="mac_roman")
    with pytest.raises(UserError, match=message):
        read_pairs(path)


def test_real_pairs(mirror: Path) -> None:
    pairs = load_pairs(("gender",))
    assert len(pairs) == 262
    text = " ".join(pair.more + pair.less for pair in pairs)
    assert "ë" in text and "é" in text and "\ufffd" not in text
    with pytest.raises(UserError, match="no bias type 'sex'"):
        load_pairs(("sex",))
