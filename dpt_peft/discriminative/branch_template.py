"""Template strings that name the branch of a label tree whose names they list."""

from __future__ import annotations

from string import Formatter

#: The placeholder of the branch's own name.
BRANCH = "branch"
_MARKS = ",.:;!?"


def template_of_branch(template: str, name: str) -> str:
    """Put a branch's name into a template string.

    At the top of a tree there is no name, and nothing is left of the placeholder but tidy text: brackets around it go
    with it, spaces become one, a mark behind it moves up to the text before, in the place of a mark that stands there.

    Args:
        template: Template string as `resolve_template` takes it, with `{branch}` or without.
        name: What the branch is called; empty at the top.

    Returns:
        A template string without `{branch}`.

    Raises:
        ValueError: `{branch}` stands there twice, or carries a format.

    Example:
        >>> template_of_branch("{text} Class: {branch}: {labels}.", "number")
        '{text} Class: number: {labels}.'
        >>> template_of_branch("{text} Class: {branch}: {labels}.", "")
        '{text} Class: {labels}.'
    """
    try:
        pieces = list(Formatter().parse(template))
    except (TypeError, ValueError):
        return template  # `parse_template` says what is wrong with it
    places = [index for index, (_, field, _, _) in enumerate(pieces) if field == BRANCH]
    if not places:
        return template
    if len(places) > 1 or pieces[places[0]][2] or pieces[places[0]][3]:
        raise ValueError(f"`template` {template!r} may have {{{BRANCH}}} once, without a format")
    place = places[0]
    before = "".join(map(_written, pieces[:place])) + _escaped(pieces[place][0])
    after = "".join(map(_written, pieces[place + 1 :]))
    return f"{before}{_escaped(name)}{after}" if name else _joined(before, after)


def _joined(before: str, after: str) -> str:
    spaced = before[-1:].isspace() or after[:1].isspace()
    before, after = before.rstrip(), after.lstrip()
    if before[-1:] + after[:1] in ("()", "[]", '""', "''"):
        return _joined(before[:-1], f" {after[1:]}")
    if not before:
        return after.lstrip(f"{_MARKS} ")
    if after[:1] and after[0] in _MARKS:
        return before.rstrip(_MARKS) + after
    return f"{before} {after}" if spaced and after else before + after


def _written(piece: tuple[str, str | None, str | None, str | None]) -> str:
    """Write a piece of a parsed template as it stood there."""
    literal, field, spec, conversion = piece
    if field is None:
        return _escaped(literal)
    return f"{_escaped(literal)}{{{field}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}}}"


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
