"""Named choices: the paper's template, the released code's, and the label words of the data sets in the paper.

A preset is a set of arguments of `DPTForSequenceClassification.from_pretrained`; whatever is passed beside it counts
more. `<data set>` has the paper's template, `<data set>-released` the released code's with its prompt words.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .template import DEFAULT_SEPARATOR, DEFAULT_TEMPLATE

LABEL_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # Label words of the released code, in the order of the sorted labels of the data (TREC: ABBR DESC ENTY ...).
        "sst2": ("negative", "positive"),
        "sst5": ("disgusted", "dissatisfied", "indifferent", "acceptable", "satisfied"),
        "trec": ("abbreviation", "description", "entity", "human", "location", "number"),
        "ag_news": ("world", "sports", "business", "science and technology"),
    }
)
_RELEASED_PROMPTS = {"sst2": "sentiment : _", "sst5": "label : _", "trec": "category : _", "ag_news": "labels :"}


def _paper() -> dict[str, Any]:
    return {"template": DEFAULT_TEMPLATE, "label_separator": DEFAULT_SEPARATOR}


def _released(prompt: str) -> dict[str, Any]:
    # [CLS] text [SEP] (text_b [SEP]) PROMPT c1 , c2 , ... [SEP]; the last separator ends every row.
    return {
        "template": f"{{text}}{{sep}} {prompt} {{labels}}",
        "label_separator": " , ",
        "untied_labels": True,
        "label_bias": True,
    }


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": _paper(),
        "released": _released("labels :"),
        **{name: _paper() | {"label_words": list(words)} for name, words in LABEL_WORDS.items()},
        **{
            f"{name}-released": _released(_RELEASED_PROMPTS[name]) | {"label_words": list(words)}
            for name, words in LABEL_WORDS.items()
        },
    }
)


def preset_options(name: str) -> dict[str, Any]:
    """Return the arguments that a preset stands for.

    Raises:
        ValueError: There is no preset of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r}")
    return dict(PRESETS[name])
