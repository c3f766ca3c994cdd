"""The tables of docs/results.md are those of the stored records."""

from __future__ import annotations

import re
from collections import defaultdict
from statistics import mean, stdev

import few_labels
import label_hierarchies
import multi_span
import pytest
import readings
import stability
from comparison import comparison_table, title_of
from plan import values_of
from tables import mean_and_spread

from dpt_peft.training import METHODS
from tests.experiments.documented import PAGE, stored

FINE_TUNING, DPT = "Fine-tuning, new head", "DPT"
DEEP, FROZEN = "Deep prompts, new head", "DPT + deep prompts, frozen"


def grid(text):
    """The cells of a markdown table without bold type and without its rule; a table that says nothing else."""
    lines = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [line for line in lines if not set("".join(line)) <= set("-: ")]


def tables_of(section):
    """The tables of a section of the page."""
    (text,) = re.findall(rf"^##+ {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [grid(table) for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]


def without(table, *columns):
    """A table without some of its columns."""
    kept = [place for place, name in enumerate(table[0]) if name not in columns]
    return [[line[place] for place in kept] for line in table]


def rows_of(table, titles):
    """The rows of these titles, in that order, without the titles."""
    by_title = {line[0]: line[1:] for line in table}
    return [by_title[title] for title in titles]


def compared(records, metric="accuracy", *, counts=True):
    """The script's table of runs with one amount of data, without its learning rates; with the numbers of seeds."""
    table = without(grid(comparison_table(records, metric)), "learning rate")
    return table if counts else [[re.sub(r" \(\d+\)$", "", cell) for cell in line] for line in table]


def one(records, **run):
    """The only record whose run has these values."""
    (found,) = [record for record in records if run.items() <= record["run"].items()]
    return found


def percent(record, metric="accuracy"):
    return f"{100 * record['metrics'][metric]:.1f}"


LOW_RESOURCE = "Low-resource text classification: fine-tuning, DPT, and the score function"


@pytest.mark.parametrize(("index", "metric"), [(0, "accuracy"), (1, "macro_f1")])
def test_ten_percent(index, metric):
    rows = compared(stored("low_resource_minilm_rtd"), metric)
    assert sorted(tables_of(LOW_RESOURCE)[index]) == sorted(rows)


def test_the_rate_of_the_first_section():
    header, *rows = tables_of(LOW_RESOURCE)[2]
    records = [record for record in stored("low_resource_search") if record["run"]["dataset"] == "trec"]
    for line, method in zip(rows, ("fine_tuning", "dpt"), strict=True):
        expected = [percent(one(records, method=method, learning_rate=float(rate))) for rate in header[1:]]
        assert line[1:] == expected


SHIPS = "Low-resource text classification on the discriminator that ships"


@pytest.mark.parametrize(("index", "metric"), [(0, "accuracy"), (1, "macro_f1")])
def test_low_resource_on_the_discriminator_that_ships(index, metric):
    assert tables_of(SHIPS)[index] == compared(stored("low_resource_embedded"), metric)


def test_deep_prompts_on_the_discriminator_that_ships():
    assert tables_of(SHIPS)[3] == compared(stored("tenth_embedded"))


@pytest.mark.parametrize(
    ("method", "other", "sst2", "trec"),
    [
        ("deep_prompt", "dpt_deep_prompt", "+0.8 ± 0.7", "+6.3 ± 0.4"),
        ("deep_prompt", "fine_tuning", "-2.0 ± 0.9", "-3.0 ± 0.6"),
        ("dpt_deep_prompt", "dpt", "-2.1 ± 0.2", "-10.3 ± 0.7"),
    ],
)
def test_their_differences_seed_by_seed(method, other, sst2, trec):
    records = [*stored("tenth_embedded"), *stored("low_resource_embedded")]

    def gains(dataset):
        for seed in (1, 2, 3):
            of_both = [
                100 * record["metrics"]["accuracy"]
                for name in (method, other)
                for record in records
                if (record["run"]["dataset"], record["run"]["method"], record["run"]["seed"]) == (dataset, name, seed)
                and "score_function" not in record["run"]["options"]
            ]
            yield of_both[0] - of_both[1]

    text = re.sub(r"\s+", " ", PAGE.read_text())
    for dataset, expected in (("sst2", sst2), ("trec", trec)):
        found = list(gains(dataset))
        assert f"{mean(found):+.1f} ± {stdev(found) / 3**0.5:.1f}" == expected
        assert expected.lstrip("-") in text


def test_its_rates():
    header, *rows = tables_of(SHIPS)[2]
    records = stored("low_resource_embedded_search")
    for line, method in zip(rows, ("fine_tuning", "dpt", "dpt_prototypes"), strict=True):
        for rate, cell in zip(header[1:], line[1:], strict=True):
            found = [r for r in records if (r["run"]["method"], r["run"]["learning_rate"]) == (method, float(rate))]
            values = values_of(found, "accuracy")
            assert cell == (f"{mean(values):.1f}" if values else "")
            assert len(values) in (0, 2)


def test_stability():
    table = tables_of("Stability over ten seeds")[0]
    records = [
        record
        for record in stored("low_resource_minilm_rtd")
        if record["run"]["dataset"] in ("sst2", "trec") and not record["run"]["options"]
    ]
    script = without(grid(stability.table(records, "accuracy", 3)), "learning rate", "seeds")
    assert table[0][1:] == script[0][2:]
    assert [line[1:] for line in table[1:]] == [line[2:] for line in script[1:]]
    assert [line[0].lower() for line in table[1:]] == [f"{line[0]}, {line[1]}".lower() for line in script[1:]]


ACCURACY = "Accuracy against trained parameters"


@pytest.mark.parametrize(("index", "count"), [(0, 8), (1, 16), (2, 32)])
def test_few_examples(index, count):
    table = tables_of(ACCURACY)[index]
    records = [r for r in stored("few_shot_minilm_rtd") if r["run"]["examples_per_class"] == count]
    assert table[0][0] == f"{count} examples a class"
    assert sorted(table[1:]) == sorted(compared(records, counts=False)[1:])


def test_ten_percent_of_all_methods():
    table = tables_of(ACCURACY)[3]
    records = [
        record
        for record in [*stored("tenth_minilm_rtd"), *stored("low_resource_minilm_rtd")]
        if record["run"]["method"] != "shallow_prompt" and not record["run"]["options"]
    ]
    rows = without(compared(records), "SST-5")
    titles = [DPT, FROZEN, f"{DEEP}, its rate 0.001", "LoRA, new head, its rate 0.001", FINE_TUNING]
    assert [line[1:] for line in table[1:]] == rows_of(rows, titles)
    assert table[0][1:] == rows[0][1:]


def test_rates_with_few_examples():
    table = tables_of(ACCURACY)[4]
    records = stored("few_shot_search")
    methods = ["fine_tuning", "dpt", "lora", "deep_prompt", "deep_prompt", "dpt_deep_prompt"]
    shown = 0
    for place, (line, method) in enumerate(zip(table[1:], methods, strict=True)):
        for rate, value in (re.sub(r"\*", "", cell).split(": ") for cell in line[1:] if cell):
            runs = [r for r in records if ("head_learning_rate" in r["run"]) == (place == 4)]
            assert value == percent(one(runs, method=method, learning_rate=float(rate)))
            shown += 1
    assert shown == len(records)


def spread(values):
    """As the page writes it: mean, sample standard deviation, number."""
    return f"{mean(values):.1f} ± {stdev(values):.1f} ({len(values)})" if len(values) > 1 else f"{values[0]:.1f} (1)"


def test_depth():
    table = tables_of("Prompt depth and length")[0]
    rows = compared(stored("prompt_depth"), counts=False)
    for line, order in zip(table[1:], ("first", "last"), strict=True):
        titles = [
            f"{DEEP}, its rate 0.001, 20 prompts, {order if depth < 6 else 'last'} {depth} layers"
            for depth in (1, 2, 4, 6)
        ]
        assert line[1:] == [row[-1] for row in rows_of(rows, titles)]


def test_length():
    table = tables_of("Prompt depth and length")[1]
    rows = compared(stored("prompt_length"), counts=False)
    for line in table[1:]:
        titles = [f"{DEEP}, its rate 0.001, {length} prompts, {line[0]}" for length in (4, 16, 64, 128)]
        found = rows_of(rows, titles)
        assert line[1:] == [*(row[-1] for row in found), found[1][0]]


def test_the_rate_of_the_head():
    table = tables_of("The head's learning rate")[0]
    starts = [{"init_std": 0.02}, {"init_std": 1.0}, {"use_gate": True}, {"init_weights": "sample_vocab"}]
    shown = 0
    for line, start in zip(table[1:], starts, strict=True):
        for cell, has_own in zip(line[1:], (False, True), strict=True):
            runs = [
                record
                for record in stored("prompt_start")
                if record["run"]["options"] == start
                and record["run"]["method"] == "deep_prompt"
                and ("head_learning_rate" in record["run"]) == has_own
            ]
            values = values_of(runs, "accuracy")
            seeds = ", ".join(f"{value:.1f}" for value in values)
            mean = mean_and_spread(values).removesuffix(" (3)")
            assert cell.replace("*", "") == (f"{seeds}: {mean}" if values else "")
            shown += len(values)
    assert shown == 18


PAIRS = "Fine-tuning, shallow prompts, deep prompts, DPT"


def test_pairs():
    table = tables_of(PAIRS)[0]
    records = stored("pairs_minilm_rtd")
    methods = ["fine_tuning", "shallow_prompt", "deep_prompt", "dpt", "dpt_deep_prompt", "lora"]
    shown = 0
    for line, method in zip(table[1:-1], methods, strict=True):
        for cell, name in zip(line[1:], ("cb", "rte", "boolq", "copa"), strict=True):
            runs = [r for r in records if (r["run"]["method"], r["run"]["dataset"]) == (method, name)]
            assert cell == (percent(runs[0]) if runs else "")
            assert not cell or line[0] in title_of(runs[0]["run"])
            shown += len(runs)
    assert shown == len(records)
    shares = {record["run"]["dataset"]: percent(record, "majority_share") for record in records}
    assert table[-1][1:] == [shares[name] for name in ("cb", "rte", "boolq", "copa")]


def test_pairs_and_ten_percent():
    table = tables_of(PAIRS)[1]
    records = [
        record
        for record in [*stored("low_resource_minilm_rtd"), *stored("tenth_minilm_rtd")]
        if record["run"]["dataset"] in ("sst2", "trec") and not record["run"]["options"]
    ]
    low = [
        record
        for record in records
        if (record["run"]["method"], record["run"]["learning_rate"]) == ("shallow_prompt", 3e-3)
    ]
    high = [record for record in records if record not in low]
    shallow = "Shallow prompts, new head, its rate 0.001"
    rows = compared(high, counts=False)
    expected = rows_of(rows, [FINE_TUNING, shallow, f"{DEEP}, its rate 0.001", DPT, FROZEN])
    expected.insert(2, *rows_of(compared(low, counts=False), [shallow]))
    found = [line[1:] for line in table[1:]]
    # A row's number of parameters is the mean over its data sets, of which the page has one more elsewhere.
    assert [line[1:] for line in found] == [line[1:] for line in expected]


def test_answers_of_several_spans():
    tables = tables_of("Answers of several spans: QUOREF")
    for table, name in zip(tables, ("multi_span_minilm_rtd", "multi_span_embedded"), strict=True):
        header, *rows = [line[3:] for line in grid(multi_span.table(stored(name), "f1", 3)) if len(line) > 1]
        assert table[0][1:] == header
        assert [line[1:] for line in table[1:]] == [[cell.removesuffix(" (1)") for cell in row] for row in rows]


def test_hundreds_of_classes():
    script, page = label_hierarchies, tables_of("Hundreds of classes")
    records = [record for record in stored("label_hierarchies") if record["run"]["split"] == "test"]
    trained = [record for record in records if record["run"]["dataset"] != script.SYNTHETIC]
    scaled = [record for record in records if record["run"]["dataset"] == script.SYNTHETIC]
    assert page[0] == grid(script.accuracy_table(trained))
    assert page[1] == grid(script.beam_table(trained))
    costs = {tuple(line[:2]): line[2:5] for line in grid(script.scaling_table(scaled))[1:]}
    for classes, flat, wide, narrow, short in page[2][1:]:
        passes, time, tokens = costs["all in templates", classes]
        assert flat == f"{passes}, {time}, {float(tokens):.0f}"
        levels, time, tokens = costs["tree, beam of 2", classes]
        assert wide == f"{levels}, {time}, {float(tokens):.0f}"
        _, time, tokens = costs["tree, beam of 1", classes]
        assert narrow == f"{time}, {float(tokens):.0f}"
        _, time, tokens = costs["short list of 8", classes]
        assert short == f"{time}, {float(tokens):.0f}"


def test_what_was_tried_for_hierarchies():
    table = tables_of("Hundreds of classes")[3]
    records = stored("label_hierarchies_tried")
    choices = [(0, False), (1, False), (0, True), (1, True)]
    for line, (negative, template) in zip(table[1:5], choices, strict=True):
        for cell, name in zip(line[1:3], ("trec", "hwu64"), strict=True):
            (found,) = [
                record
                for record in records
                if record["run"]["dataset"] == name
                and record["run"]["options"]["label_hierarchy"] == "given"
                and record["run"]["options"]["negative_branches"] == negative
                and ("template" in record["run"]["options"]) == template
            ]
            assert cell == percent(found)
    (built,) = [record for record in records if record["run"]["options"]["label_hierarchy"] == "built"]
    assert table[5][1:3] == ["", percent(built)]


def test_all_of_trec():
    assert tables_of("All of TREC: deep prompts against fine-tuning")[0] == compared(stored("trec_full"))


def test_stability_on_the_discriminator_that_ships():
    records = [
        record
        for record in stored("low_resource_embedded")
        if record["run"]["dataset"] in ("sst2", "trec")
        and record["run"]["method"] in ("fine_tuning", "dpt")
        and not record["run"]["options"]
    ]
    script = grid(stability.table(records, "accuracy", 3))
    assert tables_of("Stability over ten seeds")[1] == without(script, "learning rate", "seeds")


def test_names():
    table = tables_of("Names: CoNLL-2004 and WikiANN")[0]
    runs = [record for record in stored("names_minilm") if "head_learning_rate" not in record["run"]]
    kinds = [("fine_tuning", {}), ("lora", {}), ("deep_prompt", {}), ("deep_prompt", {"use_gate": True})]
    for line, (method, options) in zip(table[1:], kinds, strict=True):
        of = [record for record in runs if (record["run"]["method"], record["run"]["options"]) == (method, options)]
        counted = {record["trained_parameters"] for record in of if record["run"]["dataset"] == "conll04"}
        assert [f"{count:,}" for count in counted] == [line[1]]
        for cell, name in zip(line[2:], ("conll04", "wikiann_en"), strict=True):
            values = [100 * record["metrics"]["f1"] for record in of if record["run"]["dataset"] == name]
            assert cell == (spread(values) if values else "not run")


def test_names_with_the_papers_number_of_epochs():
    table = tables_of("Names: CoNLL-2004 and WikiANN")[1]
    script = without(grid(comparison_table(stored("names_embedded"), "f1")), "learning rate")
    assert table[0] == script[0]
    assert [line[1:] for line in table[1:]] == [line[1:] for line in script[1:]]


def test_names_by_size():
    table, records = tables_of("Names: CoNLL-2004 and WikiANN")[2], stored("names_by_size")
    rows = [("minilm-l3", 6e-2), ("minilm-l6", 6e-2), ("all-mpnet-base-v2", 6e-2), ("all-mpnet-base-v2", 2e-2)]
    shown = 0
    for line, (model, rate) in zip(table[1:], rows, strict=True):
        tuned, prompts = (
            {
                record["run"]["seed"]: record
                for record in records
                if (record["run"]["model"], record["run"]["method"]) == (model, method)
                and record["run"]["learning_rate"] in (1e-4, 5e-5, rate)
            }
            for method in ("fine_tuning", "deep_prompt")
        )
        assert line[2:4] == [f"{next(iter(part.values()))['trained_parameters']:,}" for part in (tuned, prompts)]
        for cell, part in zip(line[4:6], (tuned, prompts), strict=True):
            assert cell == ", ".join(percent(part[seed], "f1") if seed in part else "not run" for seed in (1, 2, 3))
        gaps = {seed: 100 * (prompts[seed]["metrics"]["f1"] - tuned[seed]["metrics"]["f1"]) for seed in prompts}
        assert line[6] == ", ".join(f"{gaps[seed]:+.1f}" if seed in gaps else "-" for seed in (1, 2, 3))
        shown += len(prompts)
    assert shown == sum(record["run"]["method"] == "deep_prompt" for record in records)


def test_answers_of_one_span():
    table = tables_of("Answers of one span: SQuAD 1.1 in small")[0]
    rows = (("fine_tuning", 2), ("deep_prompt", 2), ("deep_prompt", 4))
    for line, (method, epochs) in zip(table[1:], rows, strict=True):
        record = one(stored("squad_minilm_rtd"), method=method, epochs=epochs)
        scores = [percent(record, name) for name in ("exact_match", "f1")]
        assert line[1:] == [f"{record['trained_parameters']:,}", *scores]


def test_taggers():
    """Runs of the example scripts: what was run and its metrics, in the order of the page."""
    records = stored("taggers_minilm")

    def all_of(metric, *words):
        return spread([100 * r["metrics"][metric] for r in records if all(word in r["command"] for word in words)])

    shared = tables_of("Several tasks, shared prompts")[0]
    assert shared[1][1:] == tables_of("Names: CoNLL-2004 and WikiANN")[0][3][2:]
    assert shared[2][1:] == [all_of(f"test_{name}_f1", "run_multi_task.py") for name in ("conll04", "wikiann")]
    assert shared[3][1:] == [all_of("test_f1", "init_from", name) for name in ("data/conll04", "data/wikiann_en")]

    def cells_of(metrics):
        score = {name: f"{100 * value:.1f}" for name, value in metrics.items() if isinstance(value, float)}
        return [score["eval_f1"], f"{score['test_f1']} ({score['test_precision']}, {score['test_recall']})"]

    base_size = [record for record in records if "mpnet" in record["command"]]
    records = [record for record in records if record not in base_size]
    roles, larger = tables_of("Roles: Universal Propositions")
    assert [cells_of(record["metrics"]) for record in base_size] == [line[2:] for line in larger[1:]]
    four = ["--method fine_tuning", "--num_virtual_tokens 32", "--use_gate", "--head_learning_rate"]
    longer = [
        record
        for record in records
        if "--num_train_epochs 10 " in record["command"] and "run_srl" in record["command"]
    ]
    assert [cells_of(record["metrics"]) for record in reversed(longer)] == [line[2:] for line in roles[5:]]
    for line, option in zip(roles[1:5], four, strict=True):
        others = [other for other in four[2:] if other != option]
        (found,) = [
            record["metrics"]
            for record in records
            if "run_srl.py" in record["command"]
            and "--num_train_epochs 4 " in record["command"]
            and option in record["command"]
            and "up_dp32_6e-2" not in record["command"]
            and not any(other in record["command"] for other in others)
        ]
        assert line[2:] == cells_of(found)


def test_few_labels_beside_the_peers():
    page = tables_of("Few labels, beside SetFit and a probe")
    assert page[0] == grid(few_labels.table(stored("few_labels"), "accuracy").split("\n\n")[1])
    assert page[2] == grid(few_labels.table(stored("many_classes"), "accuracy").split("\n\n")[1])
    amounts = few_labels.table(stored("few_labels_amounts"), "accuracy").split("\n\n")
    assert page[3:6] == [grid(amounts[place]) for place in (1, 3, 5)]
    assert page[7] == grid(few_labels.table(stored("few_labels_more_sets"), "accuracy").split("\n\n")[1])
    assert page[8] == grid(few_labels.table(stored("few_labels_rates"), "accuracy").split("\n\n")[1])
    assert page[9] == grid(few_labels.table(stored("few_labels_frozen"), "accuracy").split("\n\n")[1])


def test_orders_of_the_candidates():
    tried = [record for record in stored("few_labels_tried") if record.get("orders_in_training")]
    rows = [(1, "own order"), (1, "mean of 8 orders"), (8, "own order"), (8, "mean of 8 orders")]
    table = tables_of("Few labels, beside SetFit and a probe")[10]
    for line, (orders, reading) in zip(table[1:], rows, strict=True):
        for cell, name in zip(line[1:], ("sst2", "trec", "ag_news"), strict=True):
            found = [
                record["accuracy_percent"][reading]
                for record in tried
                if record["dataset"] == name
                and record["orders_in_training"] == orders
                and "label_words" not in record
                and record["method"] == "dpt"
            ]
            assert cell == (f"{mean(found):.1f}" if found else "not run")
            assert len(found) in (0, 3)


def test_readings():
    table = tables_of("Few labels, beside SetFit and a probe")[11]
    assert table == grid(readings.table(stored("few_labels_readings")).split("\n\n")[1])


def test_no_method_of_the_few_labels_table_is_held_back_by_its_rate():
    found = defaultdict(lambda: defaultdict(list))
    for record in stored("few_labels_rates"):
        run = record["run"]
        found[run["method"]][run["learning_rate"]].append(100 * record["metrics"]["accuracy"])
    for method, rates in found.items():
        means = {rate: sum(values) / 3 for rate, values in rates.items()}
        assert max(means.values()) - means[METHODS[method].learning_rate] < 1.6


def test_differences_with_few_labels():
    methods = {
        "DPT + prototypes": "dpt_prototypes",
        "the same, frozen": "dpt_prototypes_deep_prompt",
        "DPT": "dpt",
        "SetFit": "setfit",
        "fine-tuning": "fine_tuning",
        "probe": "probe",
    }
    found = defaultdict(dict)
    for record in stored("few_labels"):
        run = record["run"]
        found[run["method"], run["seed"]][run["dataset"]] = 100 * record["metrics"]["accuracy"]
    for title, *cells in tables_of("Few labels, beside SetFit and a probe")[1][1:]:
        one, other = (methods[name] for name in title.split(" - "))
        gains = defaultdict(list)
        for seed in range(1, 6):
            mine, theirs = found[one, seed], found[other, seed]
            for name in mine:
                gains[name].append(mine[name] - theirs[name])
            gains["mean"].append(mean(mine.values()) - mean(theirs.values()))
        for name, cell in zip(("sst2", "trec", "ag_news", "messages", "mean"), cells, strict=True):
            values = gains[name]
            error = stdev(values) / len(values) ** 0.5
            assert cell == f"{mean(values):+.1f} ({error:.1f}; {sum(value > 0 for value in values)})", (title, name)


def test_differences_with_other_numbers_of_labels():
    methods = {"SetFit": "setfit", "fine-tuning": "fine_tuning", "probe": "probe"}
    found = defaultdict(dict)
    for record in stored("few_labels_amounts"):
        run = record["run"]
        found[run["examples_per_class"], run["method"], run["seed"]][run["dataset"]] = (
            100 * record["metrics"]["accuracy"]
        )
    lines = tables_of("Few labels, beside SetFit and a probe")[6][1:]
    assert [int(labels) for labels, *_ in lines] == [4] * 3 + [16] * 3 + [32] * 3
    for labels, title, *cells in lines:
        gains = defaultdict(list)
        for seed in range(1, 6 if labels != "32" else 4):
            mine, theirs = (found[int(labels), method, seed] for method in ("dpt_prototypes", methods[title]))
            assert mine.keys() == theirs.keys()
            for name in mine:
                gains[name].append(mine[name] - theirs[name])
            gains["mean"].append(mean(mine.values()) - mean(theirs.values()))
        for name, cell in zip(("sst2", "trec", "ag_news", "messages", "mean"), cells, strict=True):
            values = gains[name]
            expected = ""
            if values:
                error = stdev(values) / len(values) ** 0.5
                expected = f"{mean(values):+.1f} ({error:.1f}; {sum(value > 0 for value in values)})"
            assert cell == expected, (labels, title, name)
