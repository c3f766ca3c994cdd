"""Templates that name their branch, at the top and below."""

from __future__ import annotations

import pytest

from dpt_peft.discriminative.branch_template import template_of_branch
from dpt_peft.discriminative.template import parse_template


@pytest.mark.parametrize(
    ("template", "top", "below"),
    [
        ("{text} Class: {labels}.", "{text} Class: {labels}.", "{text} Class: {labels}."),
        ("{text} Class: {branch}: {labels}.", "{text} Class: {labels}.", "{text} Class: number: {labels}."),
        ("{text} {branch} class: {labels}.", "{text} class: {labels}.", "{text} number class: {labels}."),
        ("{text} Class {branch}: {labels}.", "{text} Class: {labels}.", "{text} Class number: {labels}."),
        ("{text} Class ({branch}): {labels}.", "{text} Class: {labels}.", "{text} Class (number): {labels}."),
        ('{text} The "{branch}" is {labels}.', "{text} The is {labels}.", '{text} The "number" is {labels}.'),
        ("{text} {labels}, a kind of {branch}.", "{text} {labels}, a kind of.", "{text} {labels}, a kind of number."),
        ("{text} {labels}, {branch}.", "{text} {labels}.", "{text} {labels}, number."),
        ("{branch}: {text} {labels}", "{text} {labels}", "number: {text} {labels}"),
        ("{text} {labels} {branch}", "{text} {labels}", "{text} {labels} number"),
        ("{text} {{{branch}}} {labels}{sep}", "{text} {{}} {labels}{sep}", "{text} {{number}} {labels}{sep}"),
    ],
)
def test_the_name_and_its_place_where_there_is_none(template, top, below):
    assert template_of_branch(template, "number") == below
    assert template_of_branch(template, "") == top
    for filled in (top, below):
        parse_template(filled)


def test_braces_of_a_name_are_text():
    filled = template_of_branch("{text} {branch}: {labels}", "{labels}")
    assert filled == "{text} {{labels}}: {labels}"
    assert [field for _, field in parse_template(filled)].count("labels") == 1


@pytest.mark.parametrize("template", ["{branch} {text} {branch} {labels}", "{text} {branch:>9} {labels}"])
def test_refused(template):
    with pytest.raises(ValueError, match="may have {branch} once, without a format"):
        template_of_branch(template, "number")


@pytest.mark.parametrize("template", ["{text} {labels", 7])
def test_what_is_no_template_is_left_to_the_parser(template):
    assert template_of_branch(template, "number") == template
