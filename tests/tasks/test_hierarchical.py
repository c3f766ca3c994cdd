import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from hierarchical_data_sets import HIERARCHIES

from dpt_peft import DPTForHierarchicalClassification, DPTForSequenceClassification, LabelTree
from dpt_peft.tasks import HierarchicalClassification, HierarchicalClassificationArguments, TaskData
from dpt_peft.tasks.hierarchical import HierarchicalData
from dpt_peft.training import ModelArguments, RunArguments, ScriptTrainingArguments, build_model, run
from tests.training.tiny import write_discriminator

ROWS = ["a cat,animal,house_cat", "an oak,plant,oak", "a dog,animal,dog", "an elm,plant,elm", "a cat,animal,house_cat"]
LEVELS = ["kind", "name"]


@pytest.fixture
def train_file(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("\n".join(["text,kind,name", *ROWS, ""]), encoding="utf-8")
    return str(path)


def load(**kwargs):
    return HierarchicalClassification().load(HierarchicalClassificationArguments(**kwargs))


def test_the_label_columns_are_the_tree(train_file, tmp_path):
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"plant": "tree"}))
    data = load(train_file=train_file, level_column_names=LEVELS, tree_words_file=str(words))
    assert data.label_names == list(data.tree.classes) == ["dog", "elm", "house_cat", "oak"]
    assert data.splits["train"]["labels"][:] == [2, 3, 0, 1, 2]
    assert data.tree.level(1) == [0, 1, 0, 1]
    assert [node.word for node in data.tree.root.children] == ["animal", "tree"]
    assert data.tree.class_words == ["dog", "elm", "house cat", "oak"]


def test_arguments_stay_as_they_were(train_file):
    args = HierarchicalClassificationArguments(train_file=train_file, level_column_names=LEVELS)
    HierarchicalClassification().load(args)
    assert args == HierarchicalClassificationArguments(train_file=train_file, level_column_names=LEVELS)


def test_without_levels_there_is_no_tree(train_file):
    data = load(train_file=train_file, label_column_name="name")
    assert data.tree is None
    assert data.label_names == ["dog", "elm", "house_cat", "oak"]


def test_a_test_split_needs_no_labels(train_file, tmp_path):
    test = tmp_path / "test.csv"
    test.write_text("text\nan ash\n")
    data = load(train_file=train_file, test_file=str(test), level_column_names=LEVELS)
    assert data.splits["test"].column_names == ["text"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"level_column_names": ["name"]}, "at least two of them, each once; got name"),
        ({"level_column_names": ["kind", "kind", "name"]}, "at least two of them, each once; got kind, kind, name"),
        ({"level_column_names": ["sort", "name"]}, r"no column 'sort' \(`level_column_names\[0\]`\)"),
        ({"level_column_names": LEVELS, "class_names": ["a"]}, "`class_names` does not name the labels"),
        (
            {"level_column_names": LEVELS, "label_column_name": "kind"},
            "`label_column_name` 'kind' must be the last of",
        ),
        ({"level_column_names": ["text", "kind"]}, "stands twice in the label tree"),
        ({"level_column_names": LEVELS, "label_separator": ";"}, "`label_separator` is for texts with several labels"),
        ({"label_column_name": "name", "label_separator": ";"}, "`label_separator` is for texts with several labels"),
    ],
)
def test_refusals(train_file, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load(train_file=train_file, **kwargs)


def shape(rows, **features):
    train = Dataset.from_dict(dict(zip(("text", *LEVELS), zip(*rows, strict=True), strict=True)))
    for column, names in features.items():
        train = train.cast_column(column, ClassLabel(names=names))
    return HierarchicalClassification().shape(
        {"train": train}, HierarchicalClassificationArguments(level_column_names=LEVELS)
    )


def test_levels_of_numbers(tmp_path):
    data = shape([("a", 1.0, 10.0), ("b", 1.0, 11.0), ("c", 2.0, 20.0)])
    assert [data.tree.path(name) for name in data.label_names] == [("1", "10"), ("1", "11"), ("2", "20")]
    path = tmp_path / "train.json"
    path.write_text('[{"text": "a", "kind": 1, "name": 10}, {"text": "b", "kind": 2.0, "name": 20.0}]')
    tree = load(train_file=str(path), level_column_names=LEVELS).tree
    assert list(map(tree.path, tree.classes)) == [("1", "10"), ("2", "20")]


@pytest.mark.parametrize("gap", [None, float("nan")])
def test_a_row_without_a_branch(gap):
    message = r"`level_column_names\[0\]`: row 1 of the train data has no name in column 'kind'"
    with pytest.raises(ValueError, match=message):
        shape([("a", 1.0, "x"), ("b", gap, "y"), ("c", 2.0, "z")])
    with pytest.raises(ValueError, match=message):
        shape([("a", 0, "x"), ("b", -1, "y"), ("c", 1, "z")], kind=["A", "B"])
    with pytest.raises(ValueError, match=message):
        shape([("a", "A", "x"), ("b", " ", "y"), ("c", "B", "z")])


def test_branches_that_differ_in_what_cannot_be_seen(caplog):
    with pytest.raises(
        ValueError, match=r"`level_column_names\[0\]`: column 'kind' has labels that differ only in"
    ) as no:
        shape([("a", "Sport", "x"), ("b", "Sport ", "y")])
    assert "class_names" not in str(no.value)
    shape([("a", "Sport", "x"), ("b", "sport", "y")])
    assert [record.message for record in caplog.records] == ["Column 'kind' has labels that look alike: Sport, sport"]


def test_a_class_without_a_row_has_no_place():
    rows = [("a", 0, 0), ("b", 1, 2)]
    with pytest.raises(ValueError, match=r"`level_column_names\[1\]`: column 'name' has the classes y, of which"):
        shape(rows, kind=["A", "B"], name=["x", "y", "z"])
    data = shape([*rows, ("c", 1, 1)], kind=["A", "B", "C"], name=["x", "y", "z"])
    assert [data.tree.path(name) for name in data.label_names] == [("A", "x"), ("B", "y"), ("B", "z")]


def test_words_for_nothing_are_refused(train_file, tmp_path):
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"stone": "rock"}))
    with pytest.raises(ValueError, match="words for stone, which the data does not have"):
        load(train_file=train_file, level_column_names=LEVELS, tree_words_file=str(words))
    with pytest.raises(FileNotFoundError, match="`tree_words_file`"):
        load(train_file=train_file, level_column_names=LEVELS, tree_words_file="none.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"cannot be read as json: Expecting"),
        ('{"plant": "a", "plant": "b"}', "an object has the key 'plant' twice"),
        ('["plant"]', r"must hold one object of words by name, got \['plant'\]"),
        ('{"plant": null}', "must hold one object of words by name"),
    ],
)
def test_a_file_of_words_that_is_none(train_file, tmp_path, content, message):
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(ValueError, match=f"`tree_words_file`.*{message}"):
        load(train_file=train_file, level_column_names=LEVELS, tree_words_file=str(tmp_path / "words.json"))


def test_words_without_levels_are_refused(train_file):
    with pytest.raises(ValueError, match="`tree_words_file` is for the names of `level_column_names`"):
        load(train_file=train_file, label_column_name="name", tree_words_file="none.json")


@pytest.fixture(scope="module")
def discriminator(tmp_path_factory):
    return write_discriminator(tmp_path_factory.mktemp("discriminator"))


def test_accuracy_per_level_against_counting(discriminator):
    tree = LabelTree.from_nested({"a": {"b": ["x", "y"], "c": ["z"]}, "d": ["v"]})
    above = {"x": "ab", "y": "ab", "z": "ac", "v": "dv"}
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(50, 4)), draw.integers(4, size=50)
    pairs = [(tree.classes[logits[row].argmax()], tree.classes[labels[row]]) for row in range(50)]
    rows = Dataset.from_dict({"text": ["a film"] * 50, "labels": labels})
    task, data = HierarchicalClassification(), HierarchicalData({}, list(tree.classes), tree)
    features = task.features(rows, task.load_tokenizer(str(discriminator)), data, None, None)
    metrics = features.metrics(logits, None)
    assert set(metrics) == {"accuracy", "macro_f1", "majority_share", "accuracy_level_1", "accuracy_level_2"}
    assert metrics["accuracy"] == pytest.approx(np.mean([p == q for p, q in pairs]))
    assert metrics["accuracy_level_1"] == pytest.approx(np.mean([above[p][0] == above[q][0] for p, q in pairs]))
    assert metrics["accuracy_level_2"] == pytest.approx(np.mean([above[p] == above[q] for p, q in pairs]))


CLASSES = ["great", "fine", "poor", "dull"]
NESTED = {"good": ["great", "fine"], "bad": ["poor", "dull"]}
MOODS = LabelTree.from_nested(NESTED)


@pytest.mark.parametrize(
    "option",
    [{"score_function": "sigmoid"}, {"calibrate": True}, {"classes_per_pass": 2}, {"template_preset": "released"}],
    ids=str,
)
def test_options_that_a_hierarchy_has_no_use_for(discriminator, option):
    def build(**options):
        data = HierarchicalData({}, CLASSES, MOODS)
        return build_model(HierarchicalClassification(), "dpt", str(discriminator), data, **options)

    with pytest.raises(ValueError, match=f"`{next(iter(option))}` has no use here.*`label_hierarchy` 'none'"):
        build(**option)
    model = build(wordpieces="max", template="{text} : {labels}", beam_width=1, beam_threshold=0.5)
    assert (model.config.wordpieces, model.config.template) == ("max", "{text} : {labels}")
    assert (model.config.beam_width, model.config.beam_threshold) == (1, 0.5)


@pytest.mark.parametrize(
    ("kind", "option", "message"),
    [
        ("given", {"max_children": 2}, "it is for a hierarchy that is built"),
        ("auto", {"max_children": 2}, "it is for a hierarchy that is built"),
        ("given", {"label_words": list("abcd")}, "are in `tree_words_file`"),
        ("auto", {"label_words": list("abcd")}, "are in `tree_words_file`"),
        ("none", {"max_children": 2}, "`label_hierarchy` is 'none'"),
        ("none", {"beam_width": 1}, "`label_hierarchy` is 'none'"),
        ("none", {"beam_threshold": 0.5}, "`label_hierarchy` is 'none'"),
    ],
    ids=str,
)
def test_options_that_this_kind_of_hierarchy_has_no_use_for(discriminator, kind, option, message):
    data = HierarchicalData({}, CLASSES, MOODS)
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` has no use here: .*{message}"):
        build_model(HierarchicalClassification(), "dpt", str(discriminator), data, label_hierarchy=kind, **option)


@pytest.mark.parametrize(
    ("kind", "tree", "expected"),
    [
        ("auto", MOODS, DPTForHierarchicalClassification),
        ("auto", None, DPTForHierarchicalClassification),
        ("given", MOODS, DPTForHierarchicalClassification),
        ("built", MOODS, DPTForHierarchicalClassification),
        ("none", MOODS, DPTForSequenceClassification),
    ],
)
def test_which_hierarchy(discriminator, kind, tree, expected):
    data = HierarchicalData({}, CLASSES, tree)
    built = {"max_children": 2} if kind == "built" or tree is None else {}
    options = {"label_hierarchy": kind, **built}
    model = build_model(HierarchicalClassification(), "dpt", str(discriminator), data, **options)
    assert type(model) is expected
    if expected is DPTForHierarchicalClassification:
        assert model.config.tree.classes == tuple(CLASSES)
        is_given = tree is not None and kind != "built"
        assert ([node.word for node in model.config.tree.root.children] == ["good", "bad"]) == is_given


def test_given_needs_levels(discriminator):
    with pytest.raises(ValueError, match="`label_hierarchy` is 'given'"):
        build_model(
            HierarchicalClassification(), "dpt", str(discriminator), TaskData({}, CLASSES), label_hierarchy="given"
        )


def test_saved_with_an_adapter_and_shown_how_to_load(discriminator, tmp_path):
    rows = [f"the film was {word},{mood},{word}" for mood, words in NESTED.items() for word in words]
    (tmp_path / "train.csv").write_text("\n".join(["text,mood,word", *rows, ""]))
    out = tmp_path / "out"
    task = HierarchicalClassification()
    args = ScriptTrainingArguments(
        str(out), do_train=True, max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True, save_strategy="no"
    )
    data = task.arguments(train_file=str(tmp_path / "train.csv"), level_column_names=["mood", "word"])
    model = ModelArguments(str(discriminator))
    run(task, RunArguments(data, "dpt_deep_prompt", args, {"num_virtual_tokens": 2}, model))
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    namespace: dict = {}
    exec(code.replace(f'"{out.name}"', repr(str(out))), namespace)
    base = namespace["classify"].model.get_base_model()
    assert type(base) is DPTForHierarchicalClassification
    assert base.config.tree.classes == ("dull", "fine", "great", "poor")


@pytest.mark.parametrize("name", list(HIERARCHIES))
def test_public_data_has_the_columns_and_the_names(shared, name):
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    data = HIERARCHIES[name]
    tree = LabelTree.from_table(
        [[row[column] for column in data.level_columns] for row in map(json.loads, (folder / "train.jsonl").open())],
        label_words={},
    )
    assert set(data.words) <= set(tree.names)
    assert (name, len(tree.root.children), len(tree)) in {("trec", 6, 50), ("hwu64", 18, 64)}


def test_a_saved_tree_keeps_its_words_and_its_beam(discriminator, tmp_path):
    def build(path, tree, classes=CLASSES, has_words=False, **options):
        data = HierarchicalData({}, list(classes), tree, has_words=has_words)
        return build_model(HierarchicalClassification(), "dpt", str(path), data, **options)

    worded = LabelTree.from_nested(NESTED, label_words={"good": "positive", "bad": "negative"})
    saved = build(discriminator, worded, has_words=True, beam_width=1)
    saved.save_pretrained(tmp_path)
    HierarchicalClassification().load_tokenizer(str(discriminator)).save_pretrained(tmp_path)
    for tree in (MOODS, None):  # levels without words; classes alone
        again = build(tmp_path, tree)
        assert again.config.tree == worded
        assert (again.config.beam_width, again.config.beam_threshold) == (1, 0.3)
    assert build(tmp_path, MOODS, beam_width=3).config.beam_width == 3
    turned = build(tmp_path, None, CLASSES[::-1]).config.tree
    assert (turned.root, turned.classes) == (worded.root, tuple(CLASSES[::-1]))
    assert build(tmp_path, MOODS, has_words=True).config.tree == MOODS
    assert build(tmp_path, MOODS, label_hierarchy="built").config.tree != worded
    with pytest.raises(ValueError, match="`label_words` has no use here"):
        build(tmp_path, None, label_hierarchy="given", label_words=["fine", "good", "bad", "poor"])
    assert build(tmp_path, None, max_children=2).config.tree != worded
    flat = LabelTree.from_nested({"good": ["great", "poor"], "bad": ["fine", "dull"]})
    assert build(tmp_path, flat).config.tree.root == flat.root


def test_classes_that_are_codes_are_named(tmp_path):
    rows = ["text,chapter,section", "a,1,1.1", "b,1,1.10", "c,2,2.1", ""]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    told = {"train_file": str(tmp_path / "train.csv"), "level_column_names": ["chapter", "section"]}
    with pytest.raises(ValueError, match=r"row 0 of the train data has '1\.1' .* spell all of them in `class_names`"):
        load(**told)
    data = load(**told, class_names=["2.1", "1.1", "1.10"])
    assert data.label_names == list(data.tree.classes) == ["2.1", "1.1", "1.10"]
    assert list(map(data.tree.path, data.tree.classes)) == [("2", "2.1"), ("1", "1.1"), ("1", "1.10")]
    assert data.splits["train"]["labels"][:] == [1, 2, 0]
    with pytest.raises(ValueError, match="are the classes as the last column spells them, each with a row"):
        load(**told, class_names=["2.1", "1.1", "1.10", "3.1"])
    told["test_file"] = told.pop("train_file")
    with pytest.raises(ValueError, match="needs training data, whose rows are the tree, or a trained model"):
        load(**told, class_names=["2.1", "1.1", "1.10"])


def test_names_for_numbers_are_no_tree(tmp_path):
    (tmp_path / "train.csv").write_text("text,kind,name\na,x,0\nb,y,1\n")
    with pytest.raises(ValueError, match="the train data has none of bad, good"):
        load(train_file=str(tmp_path / "train.csv"), level_column_names=LEVELS, class_names=["bad", "good"])
