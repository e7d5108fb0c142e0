"""Inside `quiet` libraries say nothing but errors, and afterwards all is as it was."""

import logging
import warnings

import pytest
from transformers.utils import logging as transformers_logging

from robbertje_lib.models.quiet import quiet


def test_libraries_are_silent_inside_and_as_before_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    names = ("transformers", "torch.onnx", "")

    def state() -> tuple[object, ...]:
        return transformers_logging.is_progress_bar_enabled(), *(logging.getLogger(name).level for name in names)

    before = state()
    with warnings.catch_warnings(), pytest.raises(ValueError):
        warnings.simplefilter("error")
        with quiet():
            assert not transformers_logging.is_progress_bar_enabled()
            warnings.warn("a warning", stacklevel=1)
            for name in names:
                logging.getLogger(name).warning("a warning")
                logging.getLogger(name).error("an error")
            raise ValueError
    assert state() == before
    assert "a warning" not in caplog.text and "an error" in caplog.text
