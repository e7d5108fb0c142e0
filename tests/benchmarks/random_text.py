"""Token stores of random sequences on disk, and a tokenizer for them: training as it is, without a text."""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def write_store(folder: Path, sequences: int, vocabulary: int) -> None:
    """A token store of random sequences, 80 % of them below 35 tokens, which is what the authors report for OSCAR."""

    def rows() -> Any:
        rng = np.random.default_rng(0)
        for length in np.clip(np.exp(rng.normal(math.log(23), 0.5, sequences)), 12, 126).astype(int):
            yield {"input_ids": [0, *rng.integers(5, vocabulary, length - 2).tolist(), 2]}

    with tempfile.TemporaryDirectory() as cache:
        features = Features({"input_ids": List(Value("int32"))})
        Dataset.from_generator(rows, features=features, cache_dir=cache).save_to_disk(str(folder))


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Words `w0`, `w1`, ..., each a token."""
    words = SPECIALS + [f"w{i}" for i in range(vocabulary - len(SPECIALS))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{k}_token": v for k, v in names.items()})
