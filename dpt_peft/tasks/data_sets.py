"""The papers' public data sets by name: where they are on the Hub, their columns, and DPT's word for each class.

The same columns serve a local folder with one file a split, so that an experiment runs from the Hub or from files. A
new data set is one row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpt_peft.pretrained_heads.template import LABEL_WORDS
from dpt_peft.tasks.data import FORMATS, ending_of
from dpt_peft.tasks.tagging.conll import SOURCES


@dataclass(frozen=True)
class DataSet:
    """A data set of a task family.

    Attributes:
        title: Its name in tables.
        family: `Task.name` of its family, a key of `TASKS`.
        hub_id: Its name on the Hub; None if it is not there in a form that can be loaded.
        arguments: Values of the family's data arguments, such as names of columns, wherever the data comes from.
        hub: Further arguments for the Hub's copy (`dataset_config_name`, split names, ...).
        label_words: DPT's word for each class, in the order of the `class_names` of `arguments`; without these in that
            of the Hub, which is the order of the sorted labels.
        mask_words: A verbalizer's word for each class, in the same order. None: `label_words`.
        held_out: Rows of the unused training data to validate on, where there is no validation split.
        tested_on: The split that stands for the test split: "validation" where the answers of the test split are not
            public. Validation data is then held out of the training data.
        obtain: Where to get it, if not from the Hub.
        folder: Its folder below a `data_dir`, where that is not the data set's own name.
        packaged: Folder of this package that holds it, whatever the `data_dir`.
    """

    title: str
    family: str
    hub_id: str | None
    arguments: dict[str, Any] = field(default_factory=dict)
    hub: dict[str, Any] = field(default_factory=dict)
    label_words: tuple[str, ...] = ()
    mask_words: tuple[str, ...] = ()
    held_out: int | None = None
    tested_on: str = "test"
    obtain: str = ""
    folder: str | None = None
    packaged: str | None = None


_TEXT, _NAMES, _ROLES = "text-classification", "token-classification", "semantic-role-labeling"
_CHOICE, _QUESTIONS = "multiple-choice", "question-answering"
_SEVERAL_SPANS = "multi-span-question-answering"
_HWU64 = "https://github.com/xliuhw/NLU-Evaluation-Data, as rows with `text`, `scenario` and `intent`."

DATA_SETS = {
    # Label words of the DPT paper's released code; mask words of P-tuning v2, section 4.4.
    "sst2": DataSet("SST-2", _TEXT, "SetFit/sst2", label_words=LABEL_WORDS["sst2"], mask_words=("false", "true")),
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
        # the Hub's numbers stand for another order
        {"label_column_name": "coarse_label", "class_names": ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]},
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
    # Further classes of few examples each: the lower level of TREC, assistants' intents, our own messages.
    "trec_fine": DataSet(
        "TREC, 50 classes", _TEXT, "CogComp/trec", {"label_column_name": "fine_label"}, held_out=500, folder="trec"
    ),
    "hwu64_scenarios": DataSet(
        "HWU64, 18 scenarios",
        _TEXT,
        None,
        {"label_column_name": "scenario"},
        held_out=500,
        folder="hwu64",
        obtain=_HWU64,
    ),
    "hwu64": DataSet("HWU64", _TEXT, None, {"label_column_name": "intent"}, held_out=500, obtain=_HWU64),
    "messages": DataSet("Customer messages", _TEXT, None, held_out=96, packaged="quickstart/data"),
    # Pairs, from P-tuning v2. The label words are ours: neither paper has DPT on them.
    "mnli": DataSet(
        "MNLI-m",
        _TEXT,
        "nyu-mll/glue",
        {
            "text_column_name": "premise",
            "text_pair_column_name": "hypothesis",
            "class_names": ["entailment", "neutral", "contradiction"],
        },
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
        mask_words=("true", "false", "neutral"),
    ),
    "boolq": DataSet(
        "BoolQ",
        _TEXT,
        "google/boolq",
        {"text_column_name": "question", "text_pair_column_name": "passage", "label_column_name": "answer"},
        label_words=("no", "yes"),
        mask_words=("false", "true"),
    ),
    # Names, tagged word by word.
    "conll03": DataSet("CoNLL-2003", _NAMES, "lukasgarbas/conll-03", obtain=SOURCES),
    "conll04": DataSet(
        "CoNLL-2004",
        _NAMES,
        None,
        obtain="CoNLL-2004 with names and relations (Roth and Yih 2004): https://cogcomp.seas.upenn.edu/page/resource_view/43,"
        " as one JSON object a line with `tokens` and `ner_tags`, or as a CoNLL file.",
    ),
    "ontonotes": DataSet(
        "OntoNotes 5", _NAMES, None, {"conll_word_column": 3, "conll_tag_column": 10}, obtain=SOURCES
    ),
    "wikiann_en": DataSet("WikiANN", _NAMES, "unimelb-nlp/wikiann", hub={"dataset_config_name": "en"}),
    # Semantic roles, one row a predicate.
    "conll05": DataSet("CoNLL-2005", _ROLES, None, obtain=SOURCES),
    "conll12": DataSet(
        "CoNLL-2012",
        _ROLES,
        None,
        {"conll_word_column": 3, "conll_predicate_column": 7, "conll_roles_column": 11},
        obtain=SOURCES,
    ),
    "up_ewt_srl": DataSet(
        "Universal Propositions",
        _ROLES,
        None,
        held_out=500,
        obtain="https://github.com/UniversalPropositions/UP_English-EWT, as one JSON object a line with `tokens`, "
        "`predicate_index` and `srl_tags`.",
    ),
    # COPA's columns are the family's defaults.
    "copa": DataSet("COPA", _CHOICE, "aps/super_glue", hub={"dataset_config_name": "copa"}),
    "squad_v1": DataSet("SQuAD 1.1", _QUESTIONS, "rajpurkar/squad"),
    "squad_v2": DataSet("SQuAD 2.0", _QUESTIONS, "rajpurkar/squad_v2", arguments={"version_2_with_negative": True}),
    "quoref": DataSet("QUOREF", _SEVERAL_SPANS, "allenai/quoref", held_out=150, tested_on="validation"),
}


def data_arguments(name: str, data_dir: str | Path | None = None) -> dict[str, Any]:
    """Return where a data set is and what its columns are called, as arguments of its family's dataclass.

    Args:
        name: A key of `DATA_SETS`.
        data_dir: Folder with one folder a data set, in it files whose names begin with train, validation and test, or
            hold "_train" and so on; or dev for validation. None: the Hub.

    Raises:
        ValueError: If there is no such data set, or the folder has more than one file for a split.
        FileNotFoundError: If the folder has no file for it, or no folder is given and it is not on the Hub; the
            message says where to get it.
    """
    if name not in DATA_SETS:
        raise ValueError(f"There is no data set {name!r}; there are {', '.join(DATA_SETS)}.")
    data = DATA_SETS[name]
    if data.packaged is not None:
        data_dir, where = Path(__file__).parents[1], data.packaged
    else:
        where = data.folder or name
    if data_dir is None:
        if data.hub_id is None:
            raise FileNotFoundError(f"{data.title} is not on the Hub; give a `data_dir` that has it. {data.obtain}")
        # An empty name: that split is left where it is.
        as_test = {"test_split_name": "validation", "validation_split_name": ""}
        moved = as_test if data.tested_on == "validation" else {}
        return {"dataset_name": data.hub_id, **data.arguments, **moved, **data.hub}
    folder = Path(data_dir) / where
    any_ending = data.family in (_NAMES, _ROLES)  # CoNLL files have all sorts
    files = {
        f"{split}_file": str(_only(found, split))
        for split, patterns in _PATTERNS.items()
        if (found := next(filter(None, (_files(folder, pattern, any_ending) for pattern in patterns)), None))
    }
    if not files:
        raise FileNotFoundError(
            f"`data_dir`: {folder} has no file that begins with train, validation or test."
            f"{' ' if data.obtain else ''}{data.obtain}"
        )
    if data.tested_on == "validation" and "validation_file" in files:
        files["test_file"] = files.pop("validation_file")
    return {**files, **data.arguments}


#: What the files of a split are called; the first pattern that fits any counts.
_PATTERNS = {
    "train": ("train*", "*_train*"),
    "validation": ("validation*", "*_validation*", "dev.*"),
    "test": ("test*", "*_test*"),
}


def _only(files: list[Path], split: str) -> Path:
    if len(files) > 1:
        raise ValueError(
            f"`data_dir`: {files[0].parent} has {len(files)} files of the {split} data: "
            f"{', '.join(file.name for file in files)}. Leave one of them there."
        )
    return files[0]


def _files(folder: Path, pattern: str, any_ending: bool) -> list[Path]:
    found = (file for file in folder.glob(pattern) if file.is_file())
    return sorted(file for file in found if any_ending or ending_of(file) in FORMATS)
