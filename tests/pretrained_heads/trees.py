"""Random label trees for property-based tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from dpt_peft.pretrained_heads import LabelTree

from .conftest import WORDS

# Whole words of the tiny vocabulary, each of them one token.
NAMES = [word for word in WORDS if word.isalpha()]


@st.composite
def trees(draw: st.DrawFn, most: int = 8) -> LabelTree:
    """Trees of 2 to `most` classes: random words and random depths, single children included."""
    names = draw(st.permutations(NAMES))
    classes = names[: draw(st.integers(2, most))]
    inner = iter(names[len(classes) :] * 3)

    def below(part: list[str], depth: int) -> Any:
        if depth == 3 or (depth and draw(st.booleans())):
            return list(part)
        nested: dict[str, Any] = {}
        while part:
            size = draw(st.integers(1, len(part)))
            if size == 1 and draw(st.booleans()):
                nested[part[0]] = None
            else:
                nested[next(inner)] = below(part[:size], depth + 1)
            part = part[size:]
        return nested

    return LabelTree.from_nested(below(classes, 0), classes=draw(st.permutations(classes)))
