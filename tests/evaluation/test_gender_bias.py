"""The pronoun probe reads back what was put into a model, whatever the tokenizer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.corpus.tokenization import train_tokenizer
from robbertje_lib.evaluation import gender_bias
from robbertje_lib.evaluation.gender_bias import Profession, left_out_professions, load_professions, probe
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TeacherTraining, Tokenizer
from robbertje_lib.experiment.sources import fetch
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm, wrap
from robbertje_lib.models.shapes import build_teacher
from tests.support.small_models import FAMILIES, LINES, save_small_model

TEMPLATES = ["<mask> gaat naar een <T>.", "<mask> is een <T>.", "<mask> werkt als een <T>."]
DOCTOR, BAKER = Profession("doctor", "dokter", None, 0.0), Profession("baker", "bakker", "bakkerij", 0.5)


def small_model(kind: str, vocabulary: int, lines: list[str]) -> MaskedLM:
    tokenizer = train_tokenizer(lines, Tokenizer(kind=kind, vocabulary=vocabulary, maximum_length=40))
    shape = TeacherTraining(layers=2, heads=2, hidden=32, feed_forward=48, tokens=1)
    return wrap(build_teacher(shape, tokenizer, seed=3), tokenizer, kind)


@pytest.mark.parametrize("offset", [-2.5, 0.0, 0.7, 4.0])
def test_a_model_rigged_by_a_known_offset_gives_exactly_that_offset(offset: float) -> None:
    spaced = [line.replace(".", " .").replace(",", " ,") for line in LINES]
    model = small_model("word", 200, spaced)
    hij, zij = (model.tokenizer.convert_tokens_to_ids(word) for word in ("Hij", "Zij"))
    templates = [t.replace(".", " .") for t in TEMPLATES]
    with torch.no_grad():
        decoder = model.model.lm_head.decoder
        decoder.weight[zij] = decoder.weight[hij]
        decoder.bias[zij], decoder.bias[hij] = 0.3, 0.3 + offset
    table = probe(model, templates, [DOCTOR, BAKER])
    np.testing.assert_allclose(table["log_odds"], offset, atol=1e-5)
    np.testing.assert_allclose(np.log(table["p_hij"] / table["p_zij"]), offset, atol=1e-5)
    np.testing.assert_allclose(table["lpbs"], 0, atol=1e-5)  # the prior prefers hij as much
    assert (np.sign(table["rank_difference"]) == -np.sign(offset)).all()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_agrees_with_the_plain_model(family: str, tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model(family, tmp_path))
    table = probe(model, TEMPLATES, [DOCTOR, BAKER])
    assert len(table) == 3 * 3
    assert table["lpbs"].notna().all()
    for _, row in table.iterrows():
        for pronoun in ("hij", "zij"):
            p, rank = by_hand(model, row["template"], row["profession"], pronoun.capitalize())
            assert row[f"p_{pronoun}"] == pytest.approx(p, rel=1e-3)
            assert row[f"rank_{pronoun}"] == rank


def by_hand(model: MaskedLM, template: str, profession: str, pronoun: str) -> tuple[float, int]:
    """The pronoun's pieces masked and filled in one after the other, with the plain model."""
    text = template.replace("<T>", profession).replace("<mask>", pronoun)
    encoded = model.tokenizer(text)
    ids = torch.tensor(encoded["input_ids"])
    pieces = [i for i, word in enumerate(encoded.word_ids()) if word == encoded.word_ids()[1]]
    mask, total = model.tokenizer.mask_token_id, 0.0
    for done, position in enumerate(pieces):
        masked = ids.clone()
        masked[pieces[done:]] = mask
        with torch.no_grad():
            total += float(model.model(input_ids=masked[None]).logits[0, position].log_softmax(0)[ids[position]])
    single = torch.cat([ids[: pieces[0]], torch.tensor([mask]), ids[pieces[-1] + 1 :]])
    with torch.no_grad():
        distribution = model.model(input_ids=single[None]).logits[0, pieces[0]].log_softmax(0)
    return float(np.exp(total)), 1 + int((distribution > total).sum())


def test_prior_masks_every_piece_of_the_profession(tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model("roberta", tmp_path))
    word = gender_bias.word_at_mask(model, TEMPLATES[1], "ziekenhuisdirecteur", "hij", prior=True)
    pieces = model.tokenizer(" ziekenhuisdirecteur", add_special_tokens=False)["input_ids"]
    assert len(pieces) > 2
    assert word.hole.after.count(model.tokenizer.mask_token_id) == len(pieces)
    assert not set(pieces) & set(word.hole.after)


@pytest.mark.parametrize(
    "template, written",
    [("<mask> is een <T>.", "Hij"), ("Vandaag is <mask> een <T>.", "hij"), ("Kijk! <mask> is een <T>.", "Hij")],
)
def test_pronouns_take_the_case_and_space_of_their_place(tmp_path: Path, template: str, written: str) -> None:
    model = load_masked_lm(save_small_model("roberta", tmp_path))
    word = gender_bias.word_at_mask(model, template, "dokter", "hij", prior=False)
    space = "" if template.startswith("<mask>") else " "
    assert model.tokenizer.decode(list(word.pieces)) == space + written


def test_a_vocabulary_without_pronouns_is_refused() -> None:
    model = small_model("word", 200, ["de kat zit op een stoel ."])
    with pytest.raises(UserError, match="no 'Hij'"):
        probe(model, TEMPLATES, [DOCTOR])


@pytest.mark.parametrize("template", ["hij is een <T>.", "<mask> is een dokter.", "<mask> en <mask> zijn <T>."])
def test_bad_templates(template: str, tmp_path: Path) -> None:
    model = load_masked_lm(save_small_model("roberta", tmp_path))
    with pytest.raises(UserError, match="must hold <mask> once and <T> once"):
        probe(model, [*TEMPLATES, template], [DOCTOR])


@settings(max_examples=50, deadline=None)
@given(p=st.lists(st.floats(-20, 0), min_size=4, max_size=4))
def test_lpbs_changes_sign_when_the_genders_swap(p: list[float]) -> None:
    score = gender_bias.log_probability_bias(*p)
    assert score == pytest.approx(-gender_bias.log_probability_bias(p[1], p[0], p[3], p[2]), abs=1e-9)


def test_professions_are_complete_and_distinct() -> None:
    kept = load_professions()
    assert len(kept) + len(left_out_professions()) == 320
    words = [w for p in kept for w in (p.dutch, p.dutch_female) if w]
    assert len(words) == len(set(words))
    assert all(reason for reason in left_out_professions().values())
    assert all(-1 <= p.associated_gender <= 1 for p in kept)


def test_associated_gender_is_that_of_the_source(mirror: Path) -> None:
    source = {name: gender for name, gender, _ in json.loads(fetch("professions")[0].read_text(encoding="utf-8"))}
    kept = {name: gender for name, gender in source.items() if name not in left_out_professions()}
    assert {p.english: p.associated_gender for p in load_professions()} == kept
