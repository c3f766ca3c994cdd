import pytest

from dpt_peft.tasks.tagging.metrics import ArgumentMetric, EntityMetric, read_arguments


def entity(predictions, references):
    return EntityMetric(keep_in_memory=True).compute(
        predictions=[tags.split() for tags in predictions], references=[tags.split() for tags in references]
    )


def argument(predictions, references):
    return ArgumentMetric(keep_in_memory=True).compute(
        predictions=[tags.split() for tags in predictions], references=[tags.split() for tags in references]
    )


def test_entities_by_hand():
    # gold: PER 0-1, LOC 3, ORG 0-1, found: PER 0-1, LOC 2-3 (an end is wrong), LOC 0-1 (the type is wrong), PER 3
    scores = entity(["B-PER I-PER B-LOC I-LOC", "B-LOC I-LOC O B-PER"], ["B-PER I-PER O B-LOC", "B-ORG I-ORG O O"])
    assert scores["precision"] == pytest.approx(1 / 4)
    assert scores["recall"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx(2 / 7)
    assert scores["accuracy"] == pytest.approx(3 / 8)


def test_a_tag_that_does_not_fit_begins_an_entity_as_in_conlleval():
    # conlleval reads "O I-PER" as the PER of one word that the reference has
    assert entity(["O I-PER O"], ["O B-PER O"])["f1"] == 1
    # and "B-PER I-LOC" as two entities: one right of two found, one to be found
    assert entity(["B-PER I-LOC"], ["B-PER O"])["f1"] == pytest.approx(2 / 3)


def test_entities_do_not_run_from_one_sentence_into_the_next():
    scores = entity(["O B-PER", "I-PER O"], ["O B-PER", "B-PER O"])
    assert scores["f1"] == 1


@pytest.mark.parametrize("metric", [entity, argument])
@pytest.mark.parametrize(("predictions", "references"), [(["O O"], ["B-A O"]), (["B-A O"], ["O O"]), (["O"], ["O"])])
def test_nothing_found_and_nothing_to_find(metric, predictions, references, recwarn):
    scores = metric(predictions, references)
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0, 0, 0)
    assert not recwarn.list


def test_arguments_by_hand():
    # gold: A0 0, A1 2-3; found: A0 0, A1 2 (too short), AM-TMP 4. The predicate counts nowhere.
    scores = argument(["B-A0 B-V B-A1 O B-AM-TMP"], ["B-A0 B-V B-A1 I-A1 O"])
    assert scores["precision"] == pytest.approx(1 / 3)
    assert scores["recall"] == pytest.approx(1 / 2)
    assert scores["f1"] == pytest.approx(2 / 5)
    assert scores["proposition_accuracy"] == 0


def test_the_predicate_does_not_count():
    assert argument(["B-A0 O"], ["B-A0 B-V"]) == argument(["B-A0 B-V"], ["B-A0 B-V"])
    assert argument(["B-V"], ["B-V"])["f1"] == 0
    assert read_arguments(["B-V", "B-C-V", "B-A1"]) == {("A1", ((2, 2),))}


def test_an_argument_in_parts_is_one():
    parts = ["B-A1", "B-V", "B-C-A1", "I-C-A1"]
    assert read_arguments(parts) == {("A1", ((0, 0), (2, 3)))}
    # half of it is none of it
    assert argument(["B-A1 B-V O O"], ["B-A1 B-V B-C-A1 I-C-A1"])["f1"] == 0
    # a continuation of nothing is an argument itself
    assert read_arguments(["B-C-A1", "B-V", "B-R-A0"]) == {("A1", ((0, 0),)), ("R-A0", ((2, 2),))}
    # and goes on with the last one before it
    assert read_arguments(["B-A1", "B-A1", "B-C-A1"]) == {("A1", ((0, 0),)), ("A1", ((1, 1), (2, 2)))}


def test_micro_average_over_predicates():
    scores = argument(["B-A0 B-V", "B-A1 O"], ["B-A0 B-V", "B-A0 B-A1"])
    assert scores["f1"] == pytest.approx(2 * 1 / (2 + 3))
    assert scores["proposition_accuracy"] == 0.5
