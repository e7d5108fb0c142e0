"""Project Gutenberg novels: one document a chapter, paragraphs as the author meant them.

A Gutenberg text is hard-wrapped at about 72 columns. Blank lines part the paragraphs, three or more of them
the chapters; whatever is centred or set in is furniture: title pages, verse, signatures, boxes.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from robbertje_lib.experiment.errors import UserError

ENCODING = re.compile(rb"^Character set encoding:\s*(\S.*?)\s*$", re.MULTILINE | re.IGNORECASE)
START = re.compile(r"^\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG.*$", re.MULTILINE)
END = re.compile(r"^(?:\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg)", re.MULTILINE)
CREDITS = re.compile(r"\s*(?:Produced by|E-text prepared by)", re.IGNORECASE)
CHAPTER_WORDS = 3000  # a longer chapter becomes several documents, or one book without gaps would be a single one
GAP = re.compile(r"(\n(?:[ \t]*\n)+)")  # a paragraph ends at a blank line
CHAPTER_GAP = 3  # blank lines before a chapter; Gutenberg's custom is four
FOOTNOTE = re.compile(r"\s*\[\d+\]\s")
FOOTNOTE_MARK = re.compile(r"\s?\[\d+\]")
BRACKETED = re.compile(r"\s*\[[^\]]*\]\s*", re.DOTALL)
EMPHASIS = re.compile(r"_([^_]{1,400})_")
LIST_HEADING = re.compile(
    r"\W*(?:inhoud|inhoudsopgave|bladwijzer|register|lijst van|colofon|aantee?keningen|no(?:ten|oten)\b|verbeteringen|"
    r"overzicht|errata|opmerkingen van de bewerker|opmerkingen bij|bij denzelfden uitgever|transcri)",
    re.IGNORECASE,
)
LEADERS = re.compile(r"(?:(?:\. ?){3,}|\s{3})\s?\d+\.?$", re.MULTILINE)


def read_novel(path: Path, dropped: Counter[str]) -> Iterator[list[str]]:
    """Yield each chapter's paragraphs, one string each; count in `dropped` every paragraph left out, by reason.

    Raises `UserError` if the file is not a Gutenberg text or not in the encoding that its header declares.
    """
    text = _text_as_declared(path)
    start = START.search(text)
    end = END.search(text, start.end()) if start else None
    if not start or not end:
        raise UserError(f"{path}: expected a Project Gutenberg text between its START and END lines; delete it")
    chapter: list[str] = []
    words = 0
    within_list = False
    parts = ["", *GAP.split(text[start.end() : end.start()])]
    for gap, block in zip(parts[::2], parts[1::2], strict=True):
        if not block.strip():
            continue
        new_chapter = gap.count("\n") > CHAPTER_GAP
        if chapter and (new_chapter or words >= CHAPTER_WORDS):
            yield chapter
            chapter, words = [], 0
        if new_chapter:
            within_list = bool(LIST_HEADING.match(block))
        if reason := "table of contents, notes or colophon" if within_list else _furniture(block):
            dropped[f"novels: {reason}"] += 1
        else:
            chapter.append(_unwrapped(block))
            words += chapter[-1].count(" ") + 1
    if chapter:
        yield chapter


def _text_as_declared(path: Path) -> str:
    raw = path.read_bytes()
    declared = ENCODING.search(raw[:5000])
    name = declared.group(1).decode("ascii", "replace") if declared else "UTF-8"
    try:
        codec = codecs.lookup(re.sub(r"(?i)^iso latin-?", "latin", name)).name
        text = raw.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not in {name}, which its header declares (byte {error.start}); delete it") from None
    except (LookupError, ValueError):  # no codec, one that is not for text, or no name at all
        raise UserError(f"{path}: declares the unknown encoding '{name}'; delete it") from None
    return text.replace("\r\n", "\n")


def _furniture(block: str) -> str | None:
    """Why a block is not a paragraph of the story, or None if it is one."""
    lines = block.split("\n")
    if CREDITS.match(block):
        return "credits"
    if FOOTNOTE.match(block):
        return "footnote"
    if BRACKETED.fullmatch(block):
        return "illustration or other note in brackets"
    if LEADERS.search(block) or "|" in block or block.lstrip().startswith("+"):
        return "table"
    indents = [len(line) - len(line.lstrip()) for line in lines]
    if min(indents) > 7:
        return "centred line"
    # A set-in block of full lines is a letter or a quotation, one of short lines verse or a signature.
    if min(indents) > 0 and max(map(len, lines)) < 60:
        return "verse or other set-in lines"
    if len(lines) > 1 and max(map(len, lines)) < 50:
        return "verse or other short lines"
    letters = [c for c in block if c.isalpha()]
    if not letters:
        return "no letters"
    if sum(c.isupper() for c in letters) > 0.6 * len(letters):
        return "heading in capitals"
    return None


def _unwrapped(block: str) -> str:
    text = " ".join(block.split())
    return FOOTNOTE_MARK.sub("", EMPHASIS.sub(r"\1", text)).replace("~", "").replace("--", "—")
