"""Small random models of each family, with tokenizers trained on the spot: what load_masked_lm must cope with."""

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DebertaConfig,
    DebertaForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

LINES = [
    "Hij is een dokter. Zij is een dokter. Ze werkt als een verpleegkundige.",
    "Hij gaat naar een bakker. Zij gaat naar een bakkerij op de markt.",
    "De ziekenhuisdirecteur leest elke ochtend de krant bij het raam.",
    "Een timmerman bouwt een huis, en een architect tekent het.",
    "hij zij ze hij zij ze hij zij ze hij zij ze",
] * 4
POSITIONS = 72  # what each model can take, special tokens included


def word_piece(lower: bool = False) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=130, special_tokens=specials, show_progress=False)
    backend.train_from_iterator(LINES, trainer)
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{k}_token": v for k, v in names.items()})


def byte_level() -> PreTrainedTokenizerFast:
    """As the released RobBERT tokenizers: no model_max_length, no space before the first word."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(LINES, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{k}_token": v for k, v in names.items()})


def unigram() -> PreTrainedTokenizerFast:
    """As sentencepiece: a space before the first word too."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    trainer = trainers.UnigramTrainer(vocab_size=110, special_tokens=specials, unk_token="[UNK]", show_progress=False)
    backend.train_from_iterator(LINES, trainer)
    backend.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{k}_token": v for k, v in names.items()})


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def _bert(size: int, pad: int) -> PreTrainedModel:
    return BertForMaskedLM(BertConfig(vocab_size=size, max_position_embeddings=POSITIONS, pad_token_id=pad, **SIZES))


def _roberta(size: int, pad: int) -> PreTrainedModel:
    return RobertaForMaskedLM(
        RobertaConfig(vocab_size=size, max_position_embeddings=POSITIONS + 2, pad_token_id=pad, **SIZES)
    )


def _distilbert(size: int, pad: int) -> PreTrainedModel:
    config = DistilBertConfig(
        vocab_size=size,
        dim=32,
        n_layers=2,
        n_heads=2,
        hidden_dim=48,
        max_position_embeddings=POSITIONS,
        pad_token_id=pad,
    )
    return DistilBertForMaskedLM(config)


def _modernbert(size: int, pad: int) -> PreTrainedModel:
    ids = {"pad_token_id": pad, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    config = ModernBertConfig(vocab_size=size, max_position_embeddings=POSITIONS, local_attention=8, **SIZES, **ids)
    return ModernBertForMaskedLM(config)


def _deberta(size: int, pad: int) -> PreTrainedModel:
    config = DebertaConfig(
        vocab_size=size,
        max_position_embeddings=POSITIONS,
        pad_token_id=pad,
        relative_attention=True,
        pos_att_type="c2p|p2c",
        **SIZES,
    )
    return DebertaForMaskedLM(config)


def _deberta_v2(size: int, pad: int) -> PreTrainedModel:
    config = DebertaV2Config(
        vocab_size=size,
        max_position_embeddings=POSITIONS,
        pad_token_id=pad,
        relative_attention=True,
        pos_att_type="c2p|p2c",
        **SIZES,
    )
    return DebertaV2ForMaskedLM(config)


FAMILIES: dict[str, tuple[Callable[[], PreTrainedTokenizerFast], Callable[[int, int], PreTrainedModel]]] = {
    "bert": (word_piece, _bert),
    "bert_uncased": (lambda: word_piece(lower=True), _bert),
    "roberta": (byte_level, _roberta),
    "distilbert": (word_piece, _distilbert),
    "modernbert": (byte_level, _modernbert),
    "deberta": (byte_level, _deberta),
    "deberta_v2": (unigram, _deberta_v2),
}


def save_small_model(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a small random model of `family`. Weights are drawn wide, so that predictions differ by position."""
    make_tokenizer, make_model = FAMILIES[family]
    tokenizer = make_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make_model(len(tokenizer), tokenizer.pad_token_id)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
