"""Files as users have them: what is in them comes out, or an error says why not."""

import bz2
import csv
import gzip
import io
import json
import lzma

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings, strategies as st

from dpt_peft.tasks.data import DatasetArguments, as_texts, load_file, load_splits, read_table


def read(tmp_path, content, name="x.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_file(str(path), "train_file")[:]


def test_quotes_in_a_tsv_are_text(tmp_path):
    content = 'text\tlabel\n"a great start\t1\nbad "film"\t0\n""\t0\n"and a dull one"\t0\nfine"\t1\n'
    assert read(tmp_path, content, "x.tsv") == {
        "text": ['"a great start', 'bad "film"', '""', '"and a dull one"', 'fine"'],
        "label": ["1", "0", "0", "0", "1"],
    }


def test_unicode_line_ends_are_no_line_ends(tmp_path):
    assert read(tmp_path, 'text\tlabel\n"\u2028 ""a"""\t1\n', "x.tsv") == {"text": ['\u2028 "a"'], "label": ["1"]}
    assert read(tmp_path, "text\tlabel\na\x85b\t1\n", "x.tsv") == {"text": ["a\x85b"], "label": ["1"]}


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_tsv_that_a_program_wrote_with_quotes_is_read_as_such(tmp_path, quoting):
    rows = [['so "good", isn\'t it', "1"], ["007 NA", "0"], ["tab\tin it", "0"], ["two\nlines", "1"]]
    with (tmp_path / "x.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=quoting).writerows([["text", "label"], *rows])
    assert load_file(str(tmp_path / "x.tsv"), "train_file").to_dict() == {
        "text": [text for text, _ in rows],
        "label": [label for _, label in rows],
    }


def test_cells_of_a_csv_may_hold_commas_quotes_and_lines(tmp_path):
    rows = [["a, b", "1"], ['say "no"', "0"], ["one\ntwo\r\nthree", "1"], ["it's 5\" long", "0"], ["", "1"]]
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *rows])
    assert load_file(str(tmp_path / "x.csv"), "train_file").to_dict() == {
        "text": [text for text, _ in rows],
        "label": [label for _, label in rows],
    }


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("lines", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_cells_keep_their_spelling(tmp_path, ending, lines, mark, last):
    cells = ["007", "01", "true", "1.0", "1e5", "NA", "null", "nan", "None", "", "2020-01-01", " a ", "ü", "x\u2028y"]
    rows = [f"{cell}{',' if ending == 'csv' else chr(9)}{number}" for number, cell in enumerate(cells)]
    content = lines.join([rows[0].replace("007", "text").replace("0", "label"), *rows]) + lines * last
    found = read(tmp_path, mark + content.encode(), f"x.{ending}")
    assert found == {"text": cells, "label": [str(number) for number in range(len(cells))]}


def test_empty_lines_are_no_rows(tmp_path):
    assert read(tmp_path, "text,label\n\na,1\n\nb,0\n\n\n")["text"] == ["a", "b"]
    assert read(tmp_path, "text\na\nb\n\n") == {"text": ["a", "b"]}
    assert read(tmp_path, 'text\na\n""\nb\n') == {"text": ["a", "", "b"]}
    assert read(tmp_path, "") == {}
    assert read(tmp_path, "text,label\n") == {"text": [], "label": []}


def test_columns_without_a_name_have_a_number(tmp_path):
    """The first column of a data frame that was saved with its index."""
    assert read(tmp_path, ", text,label\n0,a,1\n") == {"column 1": ["0"], "text": ["a"], "label": ["1"]}


CELLS = st.text(st.sampled_from("ab \"',;\t\n|é\u2028\ufeff\x85 0-1"), max_size=6)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), quoting=st.sampled_from([0, 1]))
def test_what_pythons_csv_wrote_is_read_back(rows, quoting):
    for separator in (",", "\t"):
        file = io.StringIO(newline="")
        style = quoting if separator == "," else csv.QUOTE_ALL
        csv.writer(file, delimiter=separator, quoting=style).writerows([("x", "y"), *rows])
        dataset = read_table(file.getvalue(), separator)
        assert list(zip(dataset["x"][:], dataset["y"][:], strict=True)) == rows


def test_texts_longer_than_the_limit_of_pythons_csv(tmp_path):
    limit = csv.field_size_limit()
    assert read(tmp_path, f"text,label\n{'a' * 200_000},1\n")["text"] == ["a" * 200_000]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("text,label\ngood,1\nwell, really,0\n", "x.csv", r"line 3 has 3 cells, but the first line names 2 "),
        ("text,label\ngood,1\nbad\n", "x.csv", r"line 3 has 1 cell, .*\(text, label\)"),
        ('text,label\n"two\nlines",1\n\na,b,c\n', "x.csv", "line 5 has 3 cells"),
        ("text\tlabel\na\tb\t1\n", "x.tsv", "line 2 has 3 cells.*cannot hold a tab"),
        ('text,label\n"never closed,1\nbad,0\n', "x.csv", "row that begins at line 2"),
        ('text,label\n"a great start,1\nbad,0\n"and dull,1\n', "x.csv", "row that begins at line 2"),
        ("text;label\ngood, really;1\n", "x.csv", "'text;label', is one cell, with semicolons.*must be commas"),
        ("text\tlabel\na\t1\n", "x.csv", "with tabs in it; between cells must be commas"),
        ("text,label\na,1\n", "x.tsv", "with commas in it; between cells must be tabs"),
        ("text,label,text\na,1,b\n", "x.csv", "names a column twice: text"),
        ("text\na\n\nb\n", "x.csv", "line 3 is empty: with one column"),
        ("text,label\ncaf\u00e9,1\n".encode("latin-1"), "x.csv", "line 2 has the byte 0xe9; save it as UTF-8"),
        ("text,label\na,1\n".encode("utf-16"), "x.csv", "it is in UTF-16 or UTF-32; save it as UTF-8"),
        ("text,label\na,1\n".encode("utf-16-le"), "x.csv", "line 1 has a zero byte; save it as UTF-8"),
        ('{"text": "caf\u00e9"}'.encode("cp1252"), "x.json", "line 1 has the byte 0xe9"),
        ('{"text": "a"}\n{"text": }\n', "x.jsonl", "line 2 column 10"),
        ('{"text": "a"}\n"b"\n', "x.jsonl", "row 1 is 'b', but every row must be an object"),
        ('[{"text": "a"}, null]', "x.json", "row 1 is 'None', but every row must be an object"),
        ('{"text": "a", "text": "b"}', "x.json", "the key 'text' twice"),
        ('{"text": "\\ud83d"}', "x.json", "a value cannot be kept.*surrogates"),
        ('{"id": 12345678901234567890}', "x.json", "a value cannot be kept"),
    ],
)
def test_a_file_that_cannot_be_read_names_the_argument_the_file_and_the_place(tmp_path, content, name, message):
    with pytest.raises(ValueError, match=rf"(?s)`train_file`: .*{name}' cannot be read as .*{message}"):
        read(tmp_path, content, name)


ROWS = [{"text": "a", "n": 1}, {"text": "b", "n": None}, {"text": "c", "extra": True}]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        "\ufeff" + json.dumps(ROWS, indent=2),
        "\n".join(map(json.dumps, ROWS)),
        "\r\n\r\n".join(map(json.dumps, ROWS)) + "\r\n",
        "\r".join(json.dumps(row, indent=2) for row in ROWS),
    ],
)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_json_in_every_layout(tmp_path, content, ending):
    assert read(tmp_path, content, f"x.{ending}") == {
        "text": ["a", "b", "c"],
        "n": [1, None, None],
        "extra": [None, None, True],
    }


@pytest.mark.skipif(not hasattr(datasets, "Json"), reason=f"datasets {datasets.__version__} refuses mixed columns")
def test_values_of_json_keep_their_type(tmp_path):
    column = [1, "1", True, None, 1.5, "2020-01-01 00:00:00", {"a": 1}, {"b": [2]}, [], "007"]
    assert read(tmp_path, json.dumps([{"v": value} for value in column]), "x.json") == {"v": column}
    for numbers in ([1, 0.7, None, 5e-324], ["a", 0.35, [0.1]], [1.0, 2.0], [1, 2]):
        kept = read(tmp_path, json.dumps([{"v": value} for value in numbers]), "x.json")["v"]
        assert repr(kept) == repr(numbers)
    for numbers in ([1.5, 10**30], [10**30, "a"]):
        with pytest.raises(ValueError, match="a value cannot be kept: "):
            read(tmp_path, json.dumps([{"v": value} for value in numbers]), "x.json")
    assert repr(read(tmp_path, '[{"v": 1}, {"v": NaN}]', "x.json")) == "{'v': [1, None]}"
    nested = [["1", 1, "null"], ["O"], [], None]
    assert read(tmp_path, json.dumps([{"v": value} for value in nested]), "x.json") == {"v": nested}
    strange = [{"c": None, "b": {}}, {"c": [False, 0], "b": []}]
    rows = [{"v": value, "n": number} for number, value in enumerate(strange)]
    assert read(tmp_path, json.dumps(rows), "x.json") == {"v": strange, "n": [0, 1]}
    dates = ["2020-01-01", "2021-01-01T10:00:00Z"]
    assert read(tmp_path, json.dumps([{"v": value} for value in dates]), "x.json") == {"v": dates}


def test_the_files_of_a_folder_are_read_alike(tmp_path):
    (tmp_path / "train.tsv").write_text('text\tlabel\n"NA\t01\n007\t1.0\n')
    (tmp_path / "dev.tsv").write_text("text\tlabel\nnull\t1\n")
    splits = load_splits(DatasetArguments(dataset_name=str(tmp_path)))
    assert splits["train"].to_dict() == {"text": ['"NA', "007"], "label": ["01", "1.0"]}
    assert splits["validation"].to_dict() == {"text": ["null"], "label": ["1"]}
    (tmp_path / "train.tsv").write_text("text\tlabel\na\tb\tc\n")
    with pytest.raises(ValueError, match="`dataset_name`: .*train.tsv' cannot be read as tsv: line 2"):
        load_splits(DatasetArguments(dataset_name=str(tmp_path)))


def test_a_folder_in_pieces_gives_all_rows(tmp_path):
    for number in range(3):
        (tmp_path / f"train-0000{number}-of-00003.csv").write_text(f"text,label\n0{number},{number}\n")
    splits = load_splits(DatasetArguments(dataset_name=str(tmp_path)))
    assert splits["train"].to_dict() == {"text": ["00", "01", "02"], "label": ["0", "1", "2"]}


@pytest.mark.skipif(not hasattr(datasets, "Json"), reason=f"datasets {datasets.__version__} refuses mixed columns")
def test_pieces_of_a_folder_may_hold_values_of_other_types(tmp_path):
    pieces = [[{"v": 1, "w": "a"}], [{"v": 1.5}], [{"v": "007", "x": True}], [{"v": None}]]
    for number, rows in enumerate(pieces):
        (tmp_path / f"train-0000{number}-of-00004.json").write_text(json.dumps(rows))
    train = load_splits(DatasetArguments(dataset_name=str(tmp_path)))["train"]
    assert repr(train["v"][:]) == "[1, 1.5, '007', None]"
    assert train["w"][:] == ["a", None, None, None]
    assert train["x"][:] == [None, None, True, None]


def parquet(path, features=None, **columns):
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)


@pytest.mark.skipif(not hasattr(datasets, "Json"), reason=f"datasets {datasets.__version__} refuses mixed columns")
def test_each_parquet_piece_keeps_its_own_values(tmp_path):
    names = [datasets.ClassLabel(names=["neg", "pos"]), datasets.ClassLabel(names=["pos", "neg"])]
    for number, (text, feature) in enumerate(zip([7, "007"], names, strict=True)):
        kind = datasets.Value("string" if isinstance(text, str) else "int64")
        features = datasets.Features({"text": kind, "label": feature})
        parquet(tmp_path / f"train-0000{number}-of-00002.parquet", features, text=[text], label=[0])
    train = load_splits(DatasetArguments(dataset_name=str(tmp_path)))["train"]
    assert train[:] == {"text": [7, "007"], "label": ["neg", "pos"]}
    parquet(tmp_path / "train-00001-of-00002.parquet", text=["a"], label=[0], other=[1])
    with pytest.raises(ValueError, match="the train data is in 2 files of different columns"):
        load_splits(DatasetArguments(dataset_name=str(tmp_path)))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"atisTrain.csv": "text\na\n", "atisTest.csv": "text\nb\n"}, "would all be training data. Call atisTest.csv"),
        ({"Train/a.csv": "text\na\n", "Test/a.csv": "text\nb\n"}, "would all be training data. Call Test.a.csv"),
        ({"train/a.csv": "text\na\n", "data/test.csv": "text\nb\n"}, "test.csv would be left out"),
        ({"train-0.csv": "text\na\n", "train-1.jsonl": '{"text": "b"}'}, r"train-[01]\..* would be left out, beside"),
        ({"Train.csv": "text\na\n", "Test.csv": "text\nb\n"}, "Train.csv would all be training data. Call Test.csv"),
        ({"train.csv": "text\na\n", "test.json": '[{"text": "b"}]'}, "the folder .* files of one kind"),
        ({"notes.md": ""}, "`dataset_name`: the folder .* cannot be read"),
        ({"train.csv.zip": "PK"}, r"`dataset_name`: .*(unpack the \.zip files|cannot be read)"),
    ],
)
def test_folders_that_would_be_read_in_part_are_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_splits(DatasetArguments(dataset_name=str(tmp_path)))


def test_other_files_of_a_folder_do_no_harm(tmp_path):
    (tmp_path / "train.csv").write_text("text\na\n")
    (tmp_path / "latest.csv").write_text("text\nb\n")
    (tmp_path / "words.json").write_text("{}")
    (tmp_path / "._train.json").write_text("")
    assert load_splits(DatasetArguments(dataset_name=str(tmp_path)))["train"][:] == {"text": ["a"]}


@pytest.mark.parametrize("inside", ["", "data/"])
def test_a_snapshot_of_links_is_read(tmp_path, inside, monkeypatch):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot" / inside).mkdir(parents=True)
    for name in ("train-00000-of-00002.csv", "train-00001-of-00002.csv", "test-00000-of-00001.csv"):
        (tmp_path / "blobs" / name[::-1]).write_text(f"text\n{name}\n")
        (tmp_path / "snapshot" / inside / name).symlink_to(tmp_path / "blobs" / name[::-1])
    (tmp_path / "link").symlink_to(tmp_path / "snapshot")
    monkeypatch.chdir(tmp_path)
    for folder in (str(tmp_path / "snapshot"), "snapshot", "link"):
        splits = load_splits(DatasetArguments(dataset_name=folder))
        assert [len(splits[name]) for name in ("train", "test")] == [2, 1]


def test_a_readme_says_which_files_are_which(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: train\n    path: [en_train.csv, en_eval.csv]\n"
        "- config_name: de\n  data_files: de_train.csv\n---\n"
    )
    for name in ("en_train", "en_eval", "de_train"):
        (tmp_path / f"{name}.csv").write_text(f"text\n{name}\n")
    args = DatasetArguments(dataset_name=str(tmp_path), dataset_config_name="en")
    assert load_splits(args)["train"]["text"][:] == ["en_train", "en_eval"]


def test_shards_keep_the_classes_that_they_share(tmp_path):
    kind = datasets.ClassLabel(names=["very bad", "bad", "good"])
    lists = [datasets.Sequence(datasets.ClassLabel(names=names)) for names in (["joy", "anger"], ["anger", "joy"])]
    for number, (note, feature) in enumerate(zip([None, "x"], lists, strict=True)):
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": kind, "note": datasets.Value("string"), "many": feature}
        )
        if note is None:
            features["note"] = datasets.Value("null")
        columns = {"text": ["a"], "label": [number], "note": [note], "many": [[0, 1]]}
        parquet(tmp_path / f"train-0000{number}-of-00002.parquet", features, **columns)
    train = load_splits(DatasetArguments(dataset_name=str(tmp_path)))["train"]
    assert train.features["label"] == kind
    assert train["label"][:] == [0, 1]
    assert train["many"][:] == [["joy", "anger"], ["anger", "joy"]]
    assert train["note"][:] == [None, "x"]


def test_classes_that_a_folders_readme_declares(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': neg\n          '1': pos\n---\n"
    )
    (tmp_path / "train.csv").write_text("text,label\na,1\nb,neg\n")
    train = load_splits(DatasetArguments(dataset_name=str(tmp_path)))["train"]
    assert train.features["label"].names == ["neg", "pos"]
    assert train[:] == {"text": ["a", "b"], "label": [1, 0]}
    (tmp_path / "test.csv").write_text("text,label\na,\nb,neg\n")
    assert load_splits(DatasetArguments(dataset_name=str(tmp_path)))["test"]["label"][:] == [None, 0]
    (tmp_path / "test.csv").write_text("text,label\na,\nb,\n")
    assert load_splits(DatasetArguments(dataset_name=str(tmp_path)))["test"]["label"][:] == ["", ""]
    (tmp_path / "train.csv").write_text("text,label\na,7\n")
    with pytest.raises(ValueError, match="column 'label' of the train data does not fit the classes that README.md"):
        load_splits(DatasetArguments(dataset_name=str(tmp_path)))


def test_a_file_is_no_data_set(tmp_path):
    (tmp_path / "train.csv").write_text("text\na\n")
    with pytest.raises(ValueError, match="`dataset_name`: .*train.csv' is a file; give it as `train_file`"):
        load_splits(DatasetArguments(dataset_name=str(tmp_path / "train.csv")))


def test_options_of_another_source_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("text\na\n")
    with pytest.raises(ValueError, match="`train_split_name` 'all' is for a `dataset_name`"):
        load_splits(DatasetArguments(train_file=str(tmp_path / "train.csv"), train_split_name="all"))
    with pytest.raises(ValueError, match="`validation_split_name` 'held' is no split of .*, which has train"):
        load_splits(DatasetArguments(dataset_name=str(tmp_path), validation_split_name="held"))


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_compressed_files_are_read_as_they_would_be_plain(tmp_path, ending):
    content = "text,label\nNA,01\n007,02\n"
    packed = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[ending](content.encode())
    assert read(tmp_path, packed, f"x.csv.{ending}") == read(tmp_path, content)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"train.csv.{ending}").write_bytes(packed)
    (tmp_path / "data" / "test.csv").write_text("text,label\nnull,01\n")
    splits = load_splits(DatasetArguments(dataset_name=str(tmp_path / "data")))
    assert splits["train"].to_dict() == {"text": ["NA", "007"], "label": ["01", "02"]}
    assert splits["test"].to_dict() == {"text": ["null"], "label": ["01"]}
    with pytest.raises(ValueError, match=rf"`train_file`: .*cannot be read as csv: it is no \.{ending} file"):
        read(tmp_path, content, f"y.csv.{ending}")


def test_each_split_of_a_folder_has_its_own_classes(tmp_path):
    def rows(names):
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        return Dataset.from_dict({"text": ["x"], "label": [0]}, features=features)

    splits = {"train": rows(["a", "b"]), "test": rows(["b", "a"])}
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    (tmp_path / "parquet").mkdir()
    for name, part in splits.items():
        part.to_parquet(tmp_path / "parquet" / f"{name}.parquet")
    for folder in ("saved", "parquet"):
        found = load_splits(DatasetArguments(dataset_name=str(tmp_path / folder)))
        assert [found[name].features["label"].int2str(found[name]["label"][0]) for name in splits] == ["a", "b"]


def test_a_folder_that_declares_its_features(tmp_path):
    card = "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
    card += "      class_label:"
    card += "\n        names:\n          '0': neg\n          '1': pos\n---\n"
    (tmp_path / "README.md").write_text(card)
    pq.write_table(pa.table({"text": ["x"], "label": [1]}), tmp_path / "train.parquet")
    features = load_splits(DatasetArguments(dataset_name=str(tmp_path)))["train"].features
    assert features["label"].names == ["neg", "pos"]


def test_a_saved_format_is_left_behind(tmp_path):
    DatasetDict({"train": Dataset.from_dict({"text": ["x"], "n": [1]}).with_format("numpy")}).save_to_disk(tmp_path)
    assert type(load_splits(DatasetArguments(dataset_name=str(tmp_path)))["train"]["n"][0]) is int


def test_a_saved_data_set_without_splits_is_refused(tmp_path):
    Dataset.from_dict({"text": ["x"]}).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match="is one saved `Dataset`. Save the splits together"):
        load_splits(DatasetArguments(dataset_name=str(tmp_path)))


def test_files_of_a_split_must_have_the_same_columns(tmp_path):
    tables, objects = tmp_path / "tables", tmp_path / "objects"
    tables.mkdir()
    objects.mkdir()
    (tables / "train-0.csv").write_text("text,label\na,0\n")
    (tables / "train-1.csv").write_text("label,text\n1,b\n")
    splits = load_splits(DatasetArguments(dataset_name=str(tables)))
    assert splits["train"].to_dict() == {"text": ["a", "b"], "label": ["0", "1"]}
    for shard, row in enumerate(['{"text": "a", "id": 1}', '{"text": "b"}']):
        (objects / f"train-{shard}.jsonl").write_text(row)
    assert load_splits(DatasetArguments(dataset_name=str(objects)))["train"]["id"][:] == [1, None]
    (tables / "train-1.csv").write_text("body,label\nb,1\n")
    with pytest.raises(
        ValueError, match="the train data is in 2 files of different columns: train-0.csv has text, la"
    ):
        load_splits(DatasetArguments(dataset_name=str(tables)))


def test_quotes_that_may_be_meant_otherwise(tmp_path, caplog):
    with pytest.raises(ValueError, match="line 2 has a blank before the quotes of a cell: .*pos.*; delete it"):
        read(tmp_path, 'text,label\ngood, "pos"\n')
    assert read(tmp_path, 'text,label\ngood," ""pos"""\n')["label"] == [' "pos"']
    assert read(tmp_path, 'text\na\n"b\nc\n', "x.tsv") == {"text": ["a", '"b', "c"]}
    assert not caplog.records
    assert read(tmp_path, 'text\na\n"b\nc"\n', "x.tsv") == {"text": ["a", '"b', 'c"']}
    assert "the quote at the beginning of line 3 is closed in a later one" in caplog.text


def test_parquet_is_for_folders(tmp_path):
    with pytest.raises(ValueError, match="`train_file` must end in .*Put parquet files into a folder"):
        load_file(str(tmp_path / "x.parquet"), "train_file")


def test_a_folder_of_parquet_files(tmp_path):
    Dataset.from_dict({"text": ["a"], "label": [1]}).to_parquet(tmp_path / "train.parquet")
    splits = load_splits(DatasetArguments(dataset_name=str(tmp_path)))
    assert splits["train"].to_dict() == {"text": ["a"], "label": [1]}


def test_a_column_as_texts():
    with pytest.raises(ValueError, match=r"`x` has, in row 0 counted from 0, \"\('a', 'b'\)\", which is no text"):
        as_texts([("a", "b")], "`x`")
    assert as_texts(["a ", None, 7, 1.5, True, float("nan"), ""], "`x`") == ["a ", "", "7", "1.5", "true", "", ""]
    with pytest.raises(ValueError, match=r"`x` has, in row 1 counted from 0, \"\['b'\]\", which is no text"):
        as_texts(["a", ["b"]], "`x`")
