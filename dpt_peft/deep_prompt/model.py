"""Deep prompts as a PEFT tuner."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_target_module_exists
from torch import nn

from .attention.base import CANNOT_BE_MERGED, DeepPromptLayer
from .bank import BANK, PromptBank
from .config import DeepPromptConfig
from .init_text import initialise_from_tokens
from .mixed_batch import BASE, Planned, RowPlan
from .positions import ShiftedPositions, find_positions, shift_positions
from .targets import choose_targets
from .task_head import TaskHead, modules_left_out
from .transfer import check_fit, combine_prompts, combined_config, initialise_from, prompts_of


class DeepPromptModel(BaseTuner):
    """Deep prompt tuning (P-tuning v2): trainable keys and values in the attention of a frozen transformers model.

    Prompts join keys and values inside attention. No token position moves, so no room of the position table is used,
    and with the adapter disabled the backbone runs exactly as before.

    Args:
        model: the transformers model to adapt.
        config: a [`DeepPromptConfig`].
        adapter_name: name of the adapter.
        low_cpu_mem_usage: create the prompts on the meta device.

    Raises:
        ValueError: if the architecture has no attention that prompts could join (the message names it), the
            configuration names layers or modules that it does not have, or `adapter_name` is `"__base__"` or that of
            another method's adapter on the same model.

    Example:
        >>> model = AutoModelForSequenceClassification.from_pretrained("roberta-large", num_labels=3)
        >>> model = get_peft_model(model, DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=20))
    """

    prefix = "deep_prompt_"
    tuner_layer_cls = (DeepPromptLayer, PromptBank, ShiftedPositions)
    _heads_may_be_new = True

    def __init__(self, model: nn.Module, config: Any, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        check_name(adapter_name)
        # PEFT's tuners over one model share a dictionary of configurations: the other's would be replaced
        other = getattr(model, "peft_config", {}).get(adapter_name)
        if other is not None and not isinstance(other, DeepPromptConfig) and _has_other_adapters(model):
            raise ValueError(
                f"`adapter_name`: the model has an adapter {adapter_name!r} already, of type {other.peft_type}. Give "
                'the prompts another name, such as adapter_name="prompts".'
            )
        # a `PeftModel` gives configurations by name, transformers and `inject_adapter_in_model` the configuration
        self._in_peft_model = not isinstance(config, PeftConfig)
        super().__init__(model, config, adapter_name, *args, **kwargs)

    #: How many `adapter_names` the present call has; None without.
    _num_names: int | None = None
    #: Who of the model's modules knows it.
    _planned: Sequence[Planned] = ()

    @property
    def bank(self) -> PromptBank:
        """The prompts of all adapters."""
        return self.model.get_submodule(BANK)

    def _prepare_adapter_config(self, peft_config: DeepPromptConfig, model_config: dict) -> DeepPromptConfig:
        # no default target modules are needed: attention modules are found by what they are
        names = {int(index): name for index, name in (model_config.get("id2label") or {}).items()}
        if peft_config.id2label is None and any(name != f"LABEL_{index}" for index, name in names.items()):
            peft_config.id2label = names
        return peft_config

    def _prepare_model(self, peft_config: DeepPromptConfig, model: nn.Module) -> None:
        self._targets = choose_targets(peft_config, model)
        # of each layer that gets prompts the sizes, and of each target the runs with prompts and their rows there
        self._sizes: list[tuple[int, int]] = []
        self._rows: dict[str, dict[int, int]] = {}
        for name, (attention, layers) in self._targets.items():
            runs = [run for run, layer in enumerate(attention.runs) if layer in layers]
            self._rows[name] = {run: len(self._sizes) + place for place, run in enumerate(runs)}
            module = model.get_submodule(name)
            module = module.base_layer if isinstance(module, DeepPromptLayer) else module
            self._sizes += [attention.layer_class.prompt_sizes(module)] * len(runs)
        if peft_config.shift_positions:
            find_positions(model)

    def _check_target_module_exists(self, peft_config: DeepPromptConfig, key: str) -> Any:
        if key in self._targets or peft_config.exclude_modules is None:
            return key in self._targets
        # PEFT warns if it never hears that something was excluded
        return check_target_module_exists(replace(peft_config, target_modules=[]), key)

    def _create_and_replace(
        self,
        peft_config: DeepPromptConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        attention, _ = self._targets[current_key]
        bank = PromptBank.install(self.model, target)
        if adapter_name not in bank.layouts:
            # the first of the targets: all of them have their prompts in one place
            hidden_size = getattr(self.model.config.get_text_config(), "hidden_size", self._sizes[0][0])
            bank.update_layer(adapter_name, peft_config, self._sizes, hidden_size)
        if not isinstance(target, DeepPromptLayer):
            layer = attention.layer_class(target, attention.runs, bank)
            layer.bind(self.model, current_key)
            layer.train(target.training)
            self._replace_module(parent, target_name, layer, target)
            target = layer
        target.slots[adapter_name] = self._rows[current_key]
        target.set_adapter(target.active_adapters)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's version also copies `weight` and `bias`, which attention modules do not have
        setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        # before anything is taken apart
        raise ValueError(CANNOT_BE_MERGED)

    def unmerge_adapter(self) -> None:
        """Do nothing: nothing is ever merged."""

    def unload(self) -> nn.Module:
        """Return the backbone without any prompts, as it was before."""
        model = super().unload()
        bank = PromptBank.of(model)
        if bank is not None:
            bank.remove(model)
        return model

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Inject as PEFT does, and make the new prompts of tokens or of those of `init_from`, as configured.

        If that fails, nothing is left of the adapter. While adapters are disabled, the new one is too.

        Raises:
            ValueError: if the name is `"__base__"`, which stands for rows without an adapter, or see `check_name`.
        """
        check_name(adapter_name)
        with self._still_disabled():
            super().inject_adapter(model, adapter_name, *args, **kwargs)
            self.bank.refresh()
            self._heads_may_be_new = True
            config = self.peft_config[adapter_name]
            if config.shift_positions:
                shift_positions(model, adapter_name, config, self.active_adapters)
            if self._is_on_meta(adapter_name):
                # made to be loaded into
                return
            if not config.inference_mode:
                warn_of_what_is_left_out(model, config, in_peft_model=self._in_peft_model)
            try:
                if config.init_weights != "normal" and not config.inference_mode:
                    initialise_from_tokens(self.model, adapter_name, config)
                if config.init_from is not None:
                    initialise_from(self, adapter_name, config.init_from)
            except Exception:
                self.delete_adapter(adapter_name)
                raise

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Activate as PEFT does. While adapters are disabled, the heads that came with a new one are too."""
        with self._still_disabled():
            super().set_adapter(adapter_name, inference_mode=inference_mode)

    @contextmanager
    def _still_disabled(self) -> Iterator[None]:
        """Disable what is new on a model whose adapters are disabled; PEFT makes it enabled."""
        bank = PromptBank.of(self.model)
        disabled = bank is not None and bank.disable_adapters
        try:
            yield
        finally:
            if disabled:
                self._enable_adapter_layers(False)

    def _is_on_meta(self, adapter_name: str) -> bool:
        prompts = prompts_of(dict(self.model.named_parameters()), adapter_name, self.prefix)
        return any(parameter.is_meta for parameter in prompts.values())

    def add_weighted_adapter(
        self,
        adapters: list[str],
        weights: list[float],
        adapter_name: str,
        combination_type: str = "linear",
    ) -> None:
        """Add an adapter made of others, as PEFT's LoRA does. Its task head is new.

        Args:
            adapters: names of existing adapters.
            weights: one number per adapter.
            adapter_name: name of the new adapter.
            combination_type: `"linear"`, the weighted sum of prompts of one length, or `"cat"`, all prompts in a row,
                the values times the weight.

        Raises:
            ValueError: if an adapter does not exist, the name is taken, or the adapters do not fit together.
        """
        unknown = [name for name in adapters if name not in self.peft_config]
        if unknown:
            raise ValueError(f"`adapters` names adapters that do not exist: {', '.join(map(repr, unknown))}.")
        if adapter_name in self.peft_config:
            raise ValueError(f"`adapter_name`: there is an adapter {adapter_name!r} already.")
        configs = [self.peft_config[name] for name in adapters]
        self.peft_config[adapter_name] = combined_config(configs, weights, combination_type)
        self.inject_adapter(self.model, adapter_name)
        combine_prompts(self.bank, adapters, weights, adapter_name, combination_type)

    def fold_encoder(self, adapter_name: str = "default") -> None:
        """Replace an adapter's "mlp" encoder by the keys and values that it makes.

        The outputs stay the same to the last bit, and the adapter is saved without the MLP from then on. Training can
        go on, with keys and values as the parameters; optimizers have to be made anew.

        Raises:
            ValueError: if there is no such adapter or it has no "mlp" encoder.
        """
        config = self.peft_config.get(adapter_name)
        if config is None or config.encoder_reparameterization != "mlp":
            raise ValueError(f"`adapter_name`: there is no adapter {adapter_name!r} with an 'mlp' encoder to fold.")
        self.bank.fold(adapter_name)
        # the object may be another adapter's configuration too
        self.peft_config[adapter_name] = config.without_encoder()

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Set one adapter per row by `adapter_names`; PEFT enters this around every forward and generate.

        Unlike LoRA's, mixed batches may be trained in, as long as activations are kept.

        Raises:
            TypeError, ValueError: if `adapter_names` is no list of existing adapters, one for each row, or the model
                recomputes activations in its backward pass, when the batch is over and its adapters forgotten.
        """
        adapter_names = kwargs.get("adapter_names")
        if adapter_names is None:
            yield
            return
        if self.training and any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules()):
            raise ValueError("`adapter_names` cannot be used in training together with gradient checkpointing.")
        try:
            self._plan_rows(RowPlan.of(adapter_names, list(self.peft_config)))
            self._num_names = len(adapter_names)
            self._check_names(*args, **kwargs)
            yield
        finally:
            self._plan_rows(None)
            self._num_names = None

    def _check_names(self, *args: Any, **kwargs: Any) -> None:
        """Raise a `ValueError` if the present call has `adapter_names`, and not one for each row that it was given.

        Further inside, wrappers and beams multiply the rows, so any multiple has to do. PEFT's classes for a task show
        their inputs to `forward`, the one without a task only to the hook around it.
        """
        if self._num_names is None:
            return
        names = ("input_ids", "inputs_embeds", getattr(self.model, "main_input_name", "input_ids"))
        rows = next((x for x in (*args, *map(kwargs.get, names)) if x is not None), None)
        if rows is not None and len(rows) != self._num_names:
            raise ValueError(f"`adapter_names` has {self._num_names} names, but the batch has {len(rows)} rows.")

    # who has what is decided outside of compiled graphs, see `PromptBank.look_up`
    @torch.compiler.disable
    def _plan_rows(self, plan: RowPlan | None) -> None:
        if plan is not None:
            TaskHead.adopt(self.model)
            self._planned = [module for module in self.model.modules() if isinstance(module, Planned)]
        for module in self._planned:
            module.plan_rows(plan)
        if plan is None:
            self._planned = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the backbone, compiled if it is: `model.get_base_model().compile()` leaves PEFT's verbs outside.

        Raises:
            ValueError: if there are `adapter_names`, and not one for each row.
        """
        self._adopt_heads()
        self._check_names(*args, **kwargs)
        for name in ("output_attentions", "output_hidden_states"):
            # PEFT passes `None` where nobody asked, which transformers takes for a no, whatever its config says
            if name in kwargs and kwargs[name] is None:
                del kwargs[name]
        return self.model(*args, **kwargs)

    @torch.compiler.assume_constant_result
    def _adopt_heads(self) -> None:
        if self._heads_may_be_new:
            # PEFT wraps heads after it has injected the prompts
            TaskHead.adopt(self.model)
            self._heads_may_be_new = False

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls,
        model: nn.Module,
        config: DeepPromptConfig,
        adapter_name: str,
        state_dict: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        remapped = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        check_fit(model.state_dict(), remapped, adapter_name, cls.prefix)
        return remapped


def check_name(adapter_name: str) -> None:
    """Raise a `ValueError` if an adapter cannot have a name: torch keeps adapters in dictionaries of modules."""
    if adapter_name == BASE:
        raise ValueError(
            f"`adapter_name` cannot be {BASE!r}: in `adapter_names` this stands for rows of the bare backbone."
        )
    taken = any(hasattr(kind(), adapter_name) for kind in (nn.ModuleDict, nn.ParameterDict))
    if not adapter_name or "." in adapter_name or taken:
        raise ValueError(
            f"`adapter_name` cannot be {adapter_name!r}: torch keeps adapters as attributes, whose names are not "
            "empty, hold no dot, and are not those of its own methods."
        )
    if adapter_name.startswith(DeepPromptModel.prefix):
        raise ValueError(
            f"`adapter_name` cannot begin with {DeepPromptModel.prefix!r}, got {adapter_name!r}: PEFT would look for "
            "its name within the name of the prompts."
        )


def warn_of_what_is_left_out(model: nn.Module, config: PeftConfig, *, in_peft_model: bool = True) -> None:
    """Warn if there is a task's head that an adapter neither trains nor saves; see `modules_left_out`."""
    left_out = modules_left_out(model, config, in_peft_model=in_peft_model)
    if left_out:
        would_do = config.task_type is None and in_peft_model
        task_type = '`task_type` ("SEQ_CLS" for multiple choice), or ' if would_do else ""
        warnings.warn(
            f"the adapter neither trains nor saves {', '.join(left_out)} of {type(model).__name__}. Where they are "
            f"new, set {task_type}`modules_to_save={left_out}`",
            stacklevel=2,
        )


def _has_other_adapters(model: nn.Module) -> bool:
    """Return whether other methods' layers are on the model; `merge_and_unload` leaves only their configuration."""
    return any(
        isinstance(module, BaseTunerLayer) and not isinstance(module, DeepPromptModel.tuner_layer_cls)
        for module in model.modules()
    )
