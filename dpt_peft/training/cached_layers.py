"""Outputs of the frozen lower layers, computed once per example and read again in every later epoch and trial.

With deep prompts in the upper layers only (`layers_to_transform="last 4"`), everything below the lowest prompted layer
is frozen and, with its dropout off, deterministic: the same example gives the same hidden states in every epoch. A
`LowerLayerCache` computes them once into a memory-mapped file and lets the model start from there.

    with LowerLayerCache(model, "cache", dtype=torch.float16) as cache:
        train, evaluation = cache.add(train, collator), cache.add(evaluation, collator)
        args = TrainingArguments(..., remove_unused_columns=False)
        Trainer(model=model, args=args, train_dataset=train, eval_dataset=evaluation, data_collator=collator).train()
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from torch import nn
from tqdm.auto import tqdm  # type: ignore[import-untyped]
from transformers import PreTrainedModel
from transformers.hf_argparser import HfArg

from dpt_peft.deep_prompt import DeepPromptLayer
from dpt_peft.pretrained_heads.base import evaluating

logger = logging.getLogger(__name__)

#: Column (and argument of the model) that says which cached example a row is.
ROW_COLUMN = "cached_row"


@dataclass
class CacheArguments:
    """Whether a script caches the frozen lower layers, and how."""

    cache_lower_layers: bool = HfArg(
        default=False,
        help="*deep_prompt with prompts in upper layers only: compute the layers below once per example and "
        "read them again in every epoch.",
    )
    cache_dir: str | None = HfArg(
        default=None, help="Folder of the cache. Default: lower_layers in the output folder."
    )
    cache_dtype: Literal["float32", "float16", "bfloat16"] = HfArg(
        default="float32", help="Type on disk; the 16-bit ones take half the room, at their rounding."
    )
    keep_cache: bool = HfArg(default=False, help="Keep the cache for further runs on the same data and model.")


@contextmanager
def cached_features(
    model: nn.Module,
    features: dict[str, Dataset],
    collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]],
    arguments: CacheArguments,
    output_dir: str | Path,
) -> Iterator[dict[str, Dataset]]:
    """Open the cache that the arguments ask for, as long as the model is trained and measured.

    Args:
        model: The model, deep prompts in its upper layers.
        features: Data sets by split, with the columns that the model takes.
        collator: Pads rows to a batch.
        arguments: What is asked for. Nothing: the features are given back as they are.
        output_dir: Where the cache lies unless the arguments say.
    """
    if not arguments.cache_lower_layers:
        yield features
        return
    folder = Path(arguments.cache_dir or Path(output_dir) / "lower_layers")
    with LowerLayerCache(
        model, folder, dtype=getattr(torch, arguments.cache_dtype), keep=arguments.keep_cache
    ) as cache:
        with PartialState().main_process_first():  # the others find its files
            cached = {split: cache.add(dataset, collator) for split, dataset in features.items()}
        yield cached
    if not arguments.keep_cache:
        with suppress(OSError):  # there are other files in it, or another process was faster
            folder.rmdir()


class _Stop(Exception):  # noqa: N818 (no error)
    """Ends a forward pass whose rest is not needed."""


class _FromCache(nn.Module):
    """Stands in a lower layer's place: the last one brings in the cached states, the others pass on what comes."""

    def __init__(self, layer: nn.Module, cache: LowerLayerCache, *, last: bool) -> None:
        super().__init__()
        # in a tuple: a reference, no submodule
        self._layer = (layer,)
        self._cache, self._last = cache, last

    def __getattr__(self, name: str) -> Any:
        """Some models ask their layers for facts, such as the kind of their attention (ModernBERT)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_layer"][0], name)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        states = self._cache._current_states(hidden_states) if self._last else hidden_states
        return states if self._cache._extras is None else (states, *self._cache._extras)


class LowerLayerCache:
    """Cache of what comes out of the layers below the lowest prompted one.

    While the cache is open, the lower layers are taken out of the model and rows must name their cached example in the
    column `cached_row`, which `add` gives to a data set. Their dropout is off, as that of a frozen backbone may be.

    Args:
        model: Model with deep prompts, nothing trainable below its lowest prompted layer.
        folder: Where the files go. Files of the same model and data that are there already are used again.
        dtype: Type on disk: float32, or float16 / bfloat16 for half the space, at their rounding.
        keep: Whether the files stay when the cache is closed, for the next trial of a search.

    Raises:
        ValueError: If the lowest layer has prompts, or the architecture does not keep its layers in a list of modules
            that hand on hidden states alone (T5 hands on position biases, ALBERT runs one layer many times).
    """

    def __init__(
        self, model: nn.Module, folder: str | Path, *, dtype: torch.dtype = torch.float32, keep: bool = False
    ) -> None:
        self.model = model
        self.folder = Path(folder)
        self.dtype = dtype
        self.keep = keep
        self.layers, self.depth, self.backbone = _find_layers(model)
        self._files: list[tuple[int, StatesFile]] = []  # with the number of its first row
        self._rows: list[int] | None = None
        self._mask: torch.Tensor | None = None
        self._removed: list[nn.Module] = []
        self._handles: list[Any] = []
        # what a layer's tuple has behind the states, if it returns one (DeBERTa: no attention weights)
        self._extras: tuple[None, ...] | None = None

    # --- opening and closing ---

    def __enter__(self) -> LowerLayerCache:
        """Take the lower layers out and listen to the model."""
        self._handles = [
            self.model.register_forward_pre_hook(self._take_rows, with_kwargs=True),
            self.backbone.register_forward_pre_hook(self._take_mask, with_kwargs=True),
        ]
        lower = list(self.layers)[: self.depth]
        self._removed = self._put([_FromCache(layer, self, last=layer is lower[-1]) for layer in lower])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the lower layers back, and remove the files unless they are to be kept."""
        for handle in self._handles:
            handle.remove()
        device = next(self.model.parameters()).device
        self._put([layer.to(device) for layer in self._removed])
        paths = [file.path for _, file in self._files]
        self._files.clear()
        if not self.keep:
            for path in paths:
                StatesFile.remove(path)

    def _put(self, lower: Sequence[nn.Module]) -> list[nn.Module]:
        """Put modules in the place of the lower layers, and return what stood there."""
        before = list(self.layers)[: self.depth]
        for index, module in enumerate(lower):
            self.layers[index] = module
        return before

    # --- filling ---

    def add(
        self, dataset: Dataset, collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]], batch_size: int = 32
    ) -> Dataset:
        """Compute the states of a data set's rows, unless its file is there, and return it with their numbers.

        The size on disk is logged before anything is written.

        Args:
            dataset: Features as the model takes them (`input_ids`, ...); labels may be among them.
            collator: Pads rows to a batch, as in training.
            batch_size: Rows at a time.

        Returns:
            The data set with the column `cached_row`.

        Raises:
            OSError: If the disk has less room than the file needs.
            ValueError: If something below the lowest prompted layer is trained.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._fingerprint(dataset)}.states"
        first_row = sum(len(file) for _, file in self._files)
        order = np.argsort([len(ids) for ids in dataset["input_ids"]], kind="stable")
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        with self._lower_layers_back():
            _, probe = self._run(dataset, order[:1], collator, states=True, gradients=True)
            assert probe is not None
            if probe.requires_grad and (trained := self._trained_below(probe)):
                raise ValueError(
                    f"{trained} is trained below the lowest prompted layer: its outputs change, so cannot be cached."
                )
            if not StatesFile.exists(path):
                self._write(path, dataset, collator, batches, probe.shape[-1])
        self._files.append((first_row, StatesFile(path, self.dtype)))
        return dataset.add_column(ROW_COLUMN, list(range(first_row, first_row + len(dataset))))

    def _trained_below(self, probe: torch.Tensor) -> str | None:
        """Return the name of a trained parameter that states of the lower layers depend on; None: there is none."""
        trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        gradients = torch.autograd.grad(probe.sum(), list(trained.values()), allow_unused=True)
        return next((name for name, found in zip(trained, gradients, strict=True) if found is not None), None)

    def _write(self, path: Path, dataset: Dataset, collator: Any, batches: list[np.ndarray], width: int) -> None:
        lengths = np.zeros(len(dataset), dtype=np.int64)
        for rows in batches:
            mask, _ = self._run(dataset, rows, collator, states=False)
            lengths[rows] = mask.sum(1).cpu().numpy()

        def states() -> Iterator[tuple[int, torch.Tensor]]:
            for rows in tqdm(batches, desc="caching lower layers", unit="batch", disable=None):
                mask, hidden = self._run(dataset, rows, collator, states=True)
                assert hidden is not None
                for row, visible, values in zip(rows, mask, hidden, strict=True):
                    yield int(row), values[visible]

        StatesFile.write(path, self.dtype, lengths.tolist(), width, states())

    def _run(
        self, dataset: Dataset, rows: np.ndarray, collator: Any, *, states: bool, gradients: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run the model up to its lowest prompted layer (or to its backbone), and return mask and hidden states."""
        found: list[torch.Tensor] = []

        def stop(_module: nn.Module, _args: Any, output: Any) -> None:
            found.append(self._only_states(output))
            raise _Stop

        def stop_at_once(*_: Any) -> None:
            raise _Stop

        batch = collator([dataset[int(row)] for row in rows])
        device = next(self.model.parameters()).device
        inputs = {name: value.to(device) for name, value in batch.items() if name not in ("labels", ROW_COLUMN)}
        handle = (
            self.layers[self.depth - 1].register_forward_hook(stop)
            if states
            else self.layers[0].register_forward_pre_hook(stop_at_once)
        )
        try:
            with evaluating(self.model), torch.set_grad_enabled(gradients):
                self.model(**inputs)
        except _Stop:
            pass
        finally:
            handle.remove()
        assert self._mask is not None
        return self._mask, found[0] if found else None

    @contextmanager
    def _lower_layers_back(self) -> Iterator[None]:
        passing = self._put(self._removed)
        try:
            yield
        finally:
            self._put(passing)

    def _fingerprint(self, dataset: Dataset) -> str:
        """Return a name for model and data: the same weights below the prompts and the same inputs, the same name."""
        digest = hashlib.sha256(f"{self.dtype} {self.depth} {type(self.backbone).__name__}".encode())
        models: list[Any] = [self.backbone, getattr(self.model, "get_base_model", lambda: self.model)()]
        for module in models:
            # The first labelled batch writes the problem's type into the config.
            facts = {key: value for key, value in module.config.to_dict().items() if key != "problem_type"}
            digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        upper = {id(p) for layer in list(self.layers)[self.depth :] for p in layer.parameters()}
        lower = [*self.backbone.parameters(), *(p for layer in self._removed for p in layer.parameters())]
        for parameter in lower:
            if id(parameter) not in upper and not parameter.requires_grad:
                digest.update(parameter.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
        inputs = sorted(set(dataset.column_names) - {"labels", "label", ROW_COLUMN})
        digest.update(json.dumps(inputs).encode())
        for name in inputs:
            digest.update(json.dumps(dataset[name][:]).encode())
        return digest.hexdigest()[:24]

    def _only_states(self, output: Any) -> torch.Tensor:
        states, *extras = output if isinstance(output, tuple) else (output,)
        if not isinstance(states, torch.Tensor) or any(extra is not None for extra in extras):
            raise ValueError("the model's layers hand on more than hidden states: they cannot be cached.")
        self._extras = tuple(extras) if isinstance(output, tuple) else None
        return states

    # --- in the forward pass ---

    def _take_rows(self, _module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        rows = kwargs.pop(ROW_COLUMN, None)
        self._rows = None if rows is None else rows.tolist()
        return args, kwargs

    def _take_mask(self, _module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        ids: Any = kwargs.get("input_ids", args[0] if args else kwargs.get("inputs_embeds"))
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        self._mask = torch.ones(ids.shape[:2], dtype=torch.bool, device=ids.device) if mask is None else mask.bool()

    def _current_states(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the cached states of the batch's rows, (batch, length, hidden size), zero where there is padding."""
        if self._rows is None:
            raise ValueError(
                f"the lower layers are cached, but the batch has no {ROW_COLUMN!r}: use the data set that `add` "
                "returned, and `remove_unused_columns=False`"
            )
        assert self._mask is not None
        pieces = [self._states_of(row) for row in self._rows]
        visible = self._mask.sum(1).tolist()
        for row, piece, count in zip(self._rows, pieces, visible, strict=True):
            if len(piece) != count:
                raise ValueError(f"row {row} was cached with {len(piece)} tokens, but the batch has {count} of it")
        hidden = embeddings.new_zeros(*self._mask.shape, pieces[0].shape[-1])
        hidden[self._mask] = torch.cat(pieces).to(device=hidden.device, dtype=hidden.dtype)
        return hidden

    def _states_of(self, row: int) -> torch.Tensor:
        for first, file in self._files:
            if 0 <= row - first < len(file):
                return file[row - first]
        raise ValueError(f"there is no cached row {row}")


def _find_layers(model: nn.Module) -> tuple[nn.ModuleList, int, PreTrainedModel]:
    """Return the list of layers, the lowest prompted one, and the model around the list."""
    prompted = [name for name, module in model.named_modules() if isinstance(module, DeepPromptLayer)]
    if not prompted:
        raise ValueError(
            "`model` has no deep prompts, and so no lower layers to cache: take a method with deep prompts in the "
            "upper layers (layers_to_transform='last 4'), or leave `cache_lower_layers` out."
        )
    found: dict[str, list[int]] = {}
    for name in prompted:
        match = re.match(r"(.*?)\.(\d+)\.", name)
        if match is not None:
            found.setdefault(match[1], []).append(int(match[2]))
    if len(found) != 1:
        raise ValueError(
            "`model` must have one stack of layers to cache the lower ones of; an encoder-decoder has two."
        )
    ((path, indices),) = found.items()
    layers = model.get_submodule(path)
    if not isinstance(layers, nn.ModuleList) or len(layers) == 1:
        raise ValueError(
            "`model` does not keep its layers in a list (ALBERT runs one layer many times): cannot cache."
        )
    depth = min(indices)
    if depth == 0:
        raise ValueError(
            "the lowest layer has prompts, so that nothing below stays the same: choose upper layers, as in "
            "layers_to_transform='last 4'."
        )
    parents = [path.rsplit(".", count)[0] for count in range(1, path.count(".") + 1)]
    backbone = next(
        (module for parent in parents if isinstance(module := model.get_submodule(parent), PreTrainedModel)), None
    )
    if backbone is None:
        raise ValueError("`model` has no transformers model around its layers.")
    return layers, depth, backbone


class StatesFile:
    """A finished file, open for reading.

    Args:
        path: The numbers; `path` with the ending .json holds where each row begins.
        dtype: Type of the numbers.
    """

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        self.path, self.dtype = path, dtype
        self.offsets: list[int] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        # bytes, as numpy has no bfloat16; read only, as the file may be larger than the memory
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r").reshape(self.offsets[-1], -1)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> torch.Tensor:
        """Return the states of a row, (length, hidden size)."""
        return torch.from_numpy(np.array(self._bytes[self.offsets[row] : self.offsets[row + 1]])).view(self.dtype)

    @staticmethod
    def exists(path: Path) -> bool:
        """Return whether there is a finished file: the description is written last."""
        return path.with_suffix(".json").exists()

    @staticmethod
    def remove(path: Path) -> None:
        """Delete a file, finished or not."""
        for suffix in (path.suffix, ".json", ".partial"):
            path.with_suffix(suffix).unlink(missing_ok=True)

    @staticmethod
    def write(
        path: Path,
        dtype: torch.dtype,
        lengths: Sequence[int],
        width: int,
        states: Iterable[tuple[int, torch.Tensor]],
    ) -> None:
        """Write a file, after logging its size.

        Args:
            path: Where to.
            dtype: Type of the numbers.
            lengths: Tokens of each row.
            width: Numbers a token.
            states: Row and its states (length, width), in any order.

        Raises:
            OSError: If the disk has less room than the file needs.
        """
        offsets = [0, *np.cumsum(lengths).tolist()]
        size = offsets[-1] * width * dtype.itemsize
        logger.info("Writing %d rows (%d tokens), %.1f MB, to %s", len(lengths), offsets[-1], size / 1e6, path)
        free = shutil.disk_usage(path.parent).free
        if size > free:
            raise OSError(f"{path.parent} has {free / 1e6:.0f} MB free, but the cache needs {size / 1e6:.0f} MB.")
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)  # one that was left may be longer than this will be
        file = torch.from_file(str(partial), shared=True, size=offsets[-1] * width, dtype=dtype).view(-1, width)
        try:
            for row, values in states:
                file[offsets[row] : offsets[row + 1]] = values
        except BaseException:
            partial.unlink()
            raise
        partial.replace(path)
        path.with_suffix(".json").write_text(json.dumps(offsets), encoding="utf-8")
