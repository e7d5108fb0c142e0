"""Libraries that keep quiet while they load, save and export: a stage's log should show the stage."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, load reports and warnings of libraries inside; a notebook in batch mode would keep them all.

    transformers warns of every new head, torch's exporter of packages that are not installed, onnxruntime's quantiser
    of every attention mask that it leaves alone. Errors are shown.
    """
    loggers = [transformers_logging.get_logger(), logging.getLogger("torch.onnx"), logging.getLogger()]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
