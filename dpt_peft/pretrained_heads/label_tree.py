"""A hierarchy of labels: many classes, told apart a few at a time (DPT paper, section 5).

Plain data, without tensors: which names stand under which, the word each is called by in a template, and the order of
the classes, which are the leaves.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .label_clusters import cluster_labels, example_vectors, word_vectors
from .template import check_label_words

if TYPE_CHECKING:
    from datasets import Dataset

LabelWords = Mapping[Any, str]


@dataclass(frozen=True)
class LabelNode:
    """One name of a label tree.

    Attributes:
        name: Its name; for a leaf the name of the class.
        word: What it is called in the template of its parent.
        children: The names below it; none for a class.
    """

    name: str
    word: str
    children: tuple[LabelNode, ...] = ()

    @property
    def is_leaf(self) -> bool:
        """Whether this is a class."""
        return not self.children


class LabelTree:
    """A tree whose leaves are the classes. Branches may be of any depth, also within one tree.

    Made by `from_nested`, `from_table`, `from_label_words` or `from_dict`; it does not change afterwards.

    Attributes:
        root: The node above everything; its name and word are empty.
        classes: Names of the leaves in the order of their class indices.

    Args:
        children: The nodes of the first level.
        classes: The order of the classes; default: as the leaves stand in the tree.

    Raises:
        ValueError: Fewer than two classes, an empty or repeated name among siblings, the same word twice among
            siblings, the same leaf twice, or `classes` is not an order of the leaves.
    """

    def __init__(self, children: Iterable[LabelNode], classes: Sequence[str] | None = None) -> None:
        self.root = LabelNode("", "", tuple(children))
        self._paths: dict[str, tuple[str, ...]] = {}
        for path, node in self._walk(self.root, ()):
            if node.is_leaf:
                if node.name in self._paths:
                    raise ValueError(
                        f"the class {node.name!r} stands twice in the label tree, at {_show(self._paths[node.name])} "
                        f"and at {_show(path)}: a class has one place, give one of them another name"
                    )
                self._paths[node.name] = path
        if len(self._paths) < 2:
            raise ValueError(f"a label tree needs at least two classes, got {sorted(self._paths)}")
        self.classes = tuple(self._paths) if classes is None else tuple(classes)
        if sorted(self.classes) != sorted(self._paths):
            odd = sorted(set(self.classes) ^ set(self._paths)) or sorted(
                {name for name in self.classes if self.classes.count(name) > 1}
            )
            raise ValueError(f"`classes` must name every leaf of the label tree once; it does not fit at {odd}")

    def _walk(self, node: LabelNode, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], LabelNode]]:
        names: set[str] = set()
        words: dict[str, str] = {}
        for child in node.children:
            if not isinstance(child.name, str) or not isinstance(child.word, str):
                raise TypeError(f"names and words of a label tree are strings, got {child.name!r}, {child.word!r}")
            if not child.name.strip() or not child.word.strip():
                raise ValueError(f"an empty name or word stands in the label tree below {_show(path)}")
            if child.name in names:
                raise ValueError(f"{child.name!r} stands twice in the label tree below {_show(path)}")
            if child.word in words:
                raise ValueError(
                    f"{words[child.word]!r} and {child.name!r} have the same label word {child.word!r} below "
                    f"{_show(path)}; a model could not tell them apart"
                )
            names.add(child.name)
            words[child.word] = child.name
            yield (*path, child.name), child
            yield from self._walk(child, (*path, child.name))

    @classmethod
    def from_nested(
        cls, nested: Any, *, label_words: LabelWords | None = None, classes: Sequence[str] | None = None
    ) -> LabelTree:
        """Make a tree from nested dicts and lists.

        Args:
            nested: A dict from names to what stands below them, `None` for a class; the names of several classes may
                be given as a list: `{"animal": ["cat", "dog"], "plant": {"tree": ["oak", "elm"], "moss": None}}`.
            label_words: Words other than the names, by name, or by path (a tuple of names from the top) where a name
                stands at several places: `{"NUM": "number", ("LOC", "other"): "place"}`.
            classes: Order of the class indices; default: as the leaves stand in the tree.

        Raises:
            TypeError: Something that is no dict, list, string or `None`.
            ValueError: A branch without a class, words for names that are not there, or what `LabelTree` refuses.
        """
        words = dict(label_words or {})
        tree = cls(_children(nested, (), words), classes)
        used = {path if path in words else path[-1] for path, _ in tree._walk(tree.root, ())}
        if unused := words.keys() - used:
            raise ValueError(f"`label_words` has words for {sorted(map(str, unused))}, not in the label tree")
        return tree

    @classmethod
    def from_table(
        cls,
        table: Dataset | Mapping[str, Sequence[Any]] | Iterable[Sequence[Any]],
        columns: Sequence[str] | None = None,
        *,
        label_words: LabelWords | None = None,
        classes: Sequence[str] | None = None,
    ) -> LabelTree:
        """Make a tree from rows that say what stands under what, such as the label columns of training data.

        Args:
            table: A `datasets.Dataset` (`Dataset.from_csv` reads a file), a data frame, a mapping from column names to
                columns, or rows such as `[("animal", "cat"), ("animal", "dog")]`. Rows may repeat; cells at the end of
                a row may be empty, `None` or NaN, where a branch is shorter than others. Numbers are names: 1 and 1.0
                are "1".
            columns: The columns from the top level down to the classes; needed unless rows are given.
            label_words: As for `from_nested`.
            classes: Order of the class indices; default: sorted by name, or the order of the `ClassLabel` in the last
                column, which is the order that `dpt_peft.tasks` gives the labels.

        Raises:
            ValueError: A class with two parents, a name that is a class in one row and a branch in another, a gap
                within a row, or what `LabelTree` refuses.
        """
        rows, known = _rows(table, columns)
        nested: dict[str, Any] = {}
        for row in sorted(set(rows)):
            below = nested
            for name in row[:-1]:
                below = below.setdefault(name, {})
                if below is None:
                    raise ValueError(f"{name!r} is a class in one row of the table and a branch in {row}")
            if below.setdefault(row[-1], None) is not None:
                raise ValueError(f"{row[-1]!r} is a class in the row {row} of the table and a branch in another")
        if classes is None:
            there = {row[-1] for row in rows}
            classes = sorted(there) if known is None else [name for name in known if name in there]
        return cls.from_nested(nested, label_words=label_words, classes=classes)

    @classmethod
    def from_label_words(
        cls, label_words: Sequence[str], discriminator: Any, *, max_children: int = 16, **options: Any
    ) -> LabelTree:
        """Build a tree when none is given: words that the discriminator finds alike come under one branch.

        A word's vector is the mean of its wordpieces' input embeddings; how vectors become branches, and what these
        are called, says `dpt_peft.pretrained_heads.label_clusters.cluster_labels`.

        Args:
            label_words: One word a class.
            discriminator: The discriminator (a loaded model, plain or wrapped), or its folder or Hub id.
            max_children: Most children of a branch, at least 2.
            **options: `tokenizer` (default: the one beside the discriminator), and where both are read, such as
                `revision` or `cache_dir`.

        Returns:
            The tree; the words are the names of the classes too, and their order is kept. The same words in the same
            order give the same tree.

        Raises:
            ImportError: scikit-learn is missing.
            TypeError, ValueError: Label words that cannot work, `max_children` below 2, or no tokenizer.
        """
        words = check_label_words(label_words)
        vectors = word_vectors(words, discriminator, **options)
        return cls.from_nested(cluster_labels(words, vectors, max_children=max_children), classes=words)

    @classmethod
    def from_examples(
        cls,
        label_words: Sequence[str],
        texts: Sequence[str],
        labels: Sequence[int],
        discriminator: Any,
        *,
        max_children: int = 16,
        **options: Any,
    ) -> LabelTree:
        """Build a tree of labelled texts: classes whose texts the discriminator finds alike come under one branch.

        A class's vector is the mean of its texts' directions, a text's being that of its mean state. The word counts
        as one more text of its class; a class without texts has nothing else.

        Args:
            label_words: One word a class.
            texts: Texts of the classes; a class may have none.
            labels: The class of each, as an index into `label_words`.
            discriminator: As for `from_label_words`.
            max_children: As for `from_label_words`.
            **options: As for `from_label_words`.

        Returns:
            As `from_label_words`.

        Raises:
            ImportError: scikit-learn is missing.
            TypeError, ValueError: As `from_label_words`; or a label is no class, or not every text has one.
        """
        words = check_label_words(label_words)
        vectors = example_vectors(words, texts, labels, discriminator, **options)
        return cls.from_nested(cluster_labels(words, vectors, max_children=max_children), classes=words)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelTree:
        """Read back what `to_dict` wrote."""

        def node(values: Mapping[str, Any]) -> LabelNode:
            return LabelNode(values["name"], values["word"], tuple(map(node, values.get("children", ()))))

        return cls(map(node, data["children"]), data["classes"])

    def to_dict(self) -> dict[str, Any]:
        """Write the tree as dicts, lists and strings, for JSON."""

        def values(node: LabelNode) -> dict[str, Any]:
            own: dict[str, Any] = {"name": node.name, "word": node.word}
            return {**own, "children": list(map(values, node.children))} if node.children else own

        return {"classes": list(self.classes), "children": list(map(values, self.root.children))}

    def rename_classes(self, names: Mapping[str, str]) -> LabelTree:
        """Return the tree with other names for its classes; their words and places stay.

        Args:
            names: New name by old name; classes that are not in it keep theirs.
        """

        def node(old: LabelNode) -> LabelNode:
            if old.is_leaf:
                return LabelNode(names.get(old.name, old.name), old.word)
            return LabelNode(old.name, old.word, tuple(map(node, old.children)))

        return LabelTree(map(node, self.root.children), [names.get(name, name) for name in self.classes])

    @property
    def depth(self) -> int:
        """Number of levels: names on the longest path."""
        return max(map(len, self._paths.values()))

    @property
    def names(self) -> list[str]:
        """All names that stand in the tree, each once, from the top down."""
        return list(dict.fromkeys(node.name for _, node in self._walk(self.root, ())))

    @property
    def class_words(self) -> list[str]:
        """The words of the classes, in the order of `classes`."""
        words = {node.name: node.word for _, node in self._walk(self.root, ()) if node.is_leaf}
        return [words[name] for name in self.classes]

    def path(self, name: str) -> tuple[str, ...]:
        """Return the names from the top down to a class, itself included."""
        return self._paths[name]

    def level(self, level: int) -> list[int]:
        """Group the classes by their ancestors at a level.

        Args:
            level: 1 for the top, `depth` for the classes themselves.

        Returns:
            One number a class, in the order of `classes`; classes below the same name of that level share one. A
            class on a shorter path stands for itself.
        """
        if not 1 <= level <= self.depth:
            raise ValueError(f"`level` must be between 1 and {self.depth}, got {level}")
        groups: dict[Hashable, int] = {}
        return [groups.setdefault(self._paths[name][:level], len(groups)) for name in self.classes]

    def __len__(self) -> int:
        return len(self.classes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelTree) and (self.root, self.classes) == (other.root, other.classes)

    def __hash__(self) -> int:
        return hash((self.root, self.classes))

    def __repr__(self) -> str:
        return f"<LabelTree: {len(self)} classes, {self.depth} levels, {len(self.root.children)} at the top>"

    def __str__(self) -> str:
        lines: list[str] = []

        def draw(node: LabelNode, indent: int) -> None:
            for child in node.children:
                word = "" if child.word == child.name else f' "{child.word}"'
                lines.append(f"{'  ' * indent}{child.name}{word}")
                draw(child, indent + 1)

        draw(self.root, 0)
        return "\n".join(lines)


def _children(nested: Any, path: tuple[str, ...], words: LabelWords) -> list[LabelNode]:
    if isinstance(nested, Mapping):
        items = list(nested.items())
    elif isinstance(nested, Sequence) and not isinstance(nested, str):
        items = []
        for item in nested:
            items += item.items() if isinstance(item, Mapping) else [(item, None)]
    else:
        raise TypeError(
            f"below {_show(path)} of a label tree stands a dict, a list of names, or None for a class, got {nested!r}"
        )
    if not items:
        raise ValueError(f"the label tree has no class below {_show(path)}; write None where the name is a class")
    nodes = []
    for name, below in items:
        if not isinstance(name, str):
            raise TypeError(f"names in a label tree are strings, got {name!r} below {_show(path)}")
        here = (*path, name)
        word = words.get(here, words.get(name, name))
        nodes.append(LabelNode(name, word, () if below is None else tuple(_children(below, here, words))))
    return nodes


def _rows(table: Any, columns: Sequence[str] | None) -> tuple[list[tuple[str, ...]], list[str] | None]:
    # Not needed to import the package, and slow to load.
    from datasets import ClassLabel, Dataset

    known = None
    if columns is not None:
        there = table.column_names if isinstance(table, Dataset) else list(table)
        missing = [column for column in columns if column not in there]
        if missing:
            raise ValueError(f"`columns`: the table has no column {missing}; those there are: {list(there)}")
        cells = [list(table[column]) for column in columns]
        if isinstance(table, Dataset):
            for index, column in enumerate(columns):
                feature = table.features[column]
                if isinstance(feature, ClassLabel):
                    cells[index] = [None if cell is None or cell < 0 else feature.names[cell] for cell in cells[index]]
                    known = feature.names if index == len(columns) - 1 else known
        raw: Iterable[Sequence[Any]] = zip(*cells, strict=True)
    elif isinstance(table, (Dataset, Mapping)) or hasattr(table, "columns"):
        raise ValueError("`columns` is missing: name the columns from the top level down to the classes")
    else:
        raw = table
    return [_row(row) for row in raw], known


def _row(cells: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(cells, str) or not isinstance(cells, Sequence):
        raise TypeError(f"a row of a label table is a tuple of names from the top down to the class, got {cells!r}")
    names = list(map(name_of_cell, cells))
    while names and not names[-1].strip():
        names.pop()
    if not names or not all(name.strip() for name in names):
        raise ValueError(f"the row {tuple(cells)} of the label table is empty or has a gap")
    return tuple(names)


def name_of_cell(cell: Any) -> str:
    """Return a cell as a name; the missing values of pandas are empty, and its whole numbers may be floats."""
    if cell is None or (not isinstance(cell, str) and str(cell) in ("nan", "NaT", "<NA>")):
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _show(path: tuple[str, ...]) -> str:
    return repr(" > ".join(path)) if path else "the top"
