"""The papers' public data sets by name: where they are on the Hub, their columns, and DPT's word for each class.

The same columns serve a local folder with one file a split, so that an experiment runs from the Hub or from files. A
new data set is one row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpt_peft.discriminative.presets import LABEL_WORDS
from dpt_peft.tasks.loading import FORMATS


@dataclass(frozen=True)
class DataSet:
    """A data set of a task family.

    Attributes:
        title: Its name in tables.
        family: Pipeline tag of its task family.
        hub_id: Its name on the Hub.
        columns: Values of the family's `*_column_name` arguments, by argument.
        hub: Further arguments for the Hub's copy (`dataset_config_name`, split names, ...).
        label_words: DPT's word for each class, in the order of the sorted labels.
        metric: The metric that its papers report.
        held_out: Rows of the unused training data to validate on, where there is no validation split.
    """

    title: str
    family: str
    hub_id: str
    columns: dict[str, str] = field(default_factory=dict)
    hub: dict[str, Any] = field(default_factory=dict)
    label_words: tuple[str, ...] = ()
    metric: str = "accuracy"
    held_out: int | None = None


_TEXT = "text-classification"

DATA_SETS = {
    # Label words of the DPT paper's released code.
    "sst2": DataSet("SST-2", _TEXT, "SetFit/sst2", label_words=LABEL_WORDS["sst2"]),
    "sst5": DataSet(
        "SST-5",
        _TEXT,
        "SetFit/sst5",
        label_words=LABEL_WORDS["sst5"],
    ),
    # Classes in alphabetical order: ABBR DESC ENTY HUM LOC NUM.
    "trec": DataSet(
        "TREC",
        _TEXT,
        "CogComp/trec",
        {"label_column_name": "coarse_label"},
        label_words=LABEL_WORDS["trec"],
        held_out=500,
    ),
    "ag_news": DataSet(
        "AG News",
        _TEXT,
        "fancyzhx/ag_news",
        label_words=LABEL_WORDS["ag_news"],
        held_out=500,
    ),
    # Pairs, from P-tuning v2. The label words are ours: neither paper has DPT on them.
    "mnli": DataSet(
        "MNLI-m",
        _TEXT,
        "nyu-mll/glue",
        {"text_column_name": "premise", "text_pair_column_name": "hypothesis"},
        {"dataset_config_name": "mnli", "validation_split_name": "validation_matched"},
        label_words=("true", "unknown", "false"),
    ),
    "rte": DataSet(
        "RTE",
        _TEXT,
        "nyu-mll/glue",
        {"text_column_name": "sentence1", "text_pair_column_name": "sentence2"},
        {"dataset_config_name": "rte"},
        label_words=("true", "false"),
    ),
    "cb": DataSet(
        "CB",
        _TEXT,
        "aps/super_glue",
        {"text_column_name": "premise", "text_pair_column_name": "hypothesis"},
        {"dataset_config_name": "cb"},
        label_words=("true", "false", "unknown"),
    ),
    "boolq": DataSet(
        "BoolQ",
        _TEXT,
        "google/boolq",
        {"text_column_name": "question", "text_pair_column_name": "passage", "label_column_name": "answer"},
        label_words=("no", "yes"),
    ),
}


def data_arguments(name: str, data_dir: str | Path | None = None) -> dict[str, Any]:
    """Returns where a data set is and what its columns are called, as arguments of its family's dataclass.

    Args:
        name: A key of `DATA_SETS`.
        data_dir: Folder with one folder a data set, in it files whose names begin with train, validation and test.
            None: the Hub.

    Raises:
        ValueError: If there is no such data set.
        FileNotFoundError: If the folder has no file for it.
    """
    if name not in DATA_SETS:
        raise ValueError(f"There is no data set {name!r}; there are {', '.join(DATA_SETS)}.")
    data = DATA_SETS[name]
    if data_dir is None:
        return {"dataset_name": data.hub_id, **data.columns, **data.hub}
    folder = Path(data_dir) / name
    files = {
        f"{split}_file": str(found[0])
        for split in ("train", "validation", "test")
        if (found := sorted(file for file in folder.glob(f"{split}*") if file.suffix in FORMATS))
    }
    if not files:
        raise FileNotFoundError(f"`data_dir`: {folder} has no file that begins with train, validation or test.")
    return {**files, **data.columns}
