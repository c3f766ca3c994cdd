"""DPT: text classification with the pretrained head of a discriminator (Yao et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from .base import evaluating
from .dpt_config import DPTForSequenceClassificationConfig
from .label_lists import OWN_LIST, LabelListBank, resolve_label_list
from .loss import NO_CLASS, check_class_indices, dpt_loss, told_problem_type
from .prototypes import full_precision, mean_state, pair_loss
from .short_list import ShortListSplicer
from .splice import SplicedInputs, TemplateSplicer, class_scores
from .templated import TemplateModel


class DPTForSequenceClassification(TemplateModel):
    """Classifies texts by asking a discriminator which of the class words in a template look original.

    The model takes ordinary tokenizer output, splices the template in behind the text (Eq. 1), and reads the
    pretrained replaced-token head at the first wordpiece of every class. There is no new parameter, unless
    `preset="released"` asks for the released code's label tokens and biases (`label_tokens`, `label_bias`), or
    `prototypes=True` for a vector a class.

    `logits` (batch, classes) are -z, where z is the head's output (high = replaced): `sigmoid(logits)` is the score
    of Eq. 2, the highest logit is the class, with labels or without. `pipeline("text-classification")` shows their
    softmax; pass `function_to_apply="sigmoid"` for the score of Eq. 2 (the default where `problem_type` is
    `"multi_label_classification"`). Columns follow the label words, whatever the order in the template.

    With `prototypes=True` the same pass also gives the mean state of the text, which is compared with a prototype of
    every class: `logits` = `template_weight` * (-z) + `prototype_scale` * cosine, whose softmax says how likely a
    class is. The loss is Eq. 3 of -z, plus the cross entropy of the scaled cosines, plus `pair_weight` *
    `prototypes.pair_loss`. Start the prototypes from labelled texts with `set_prototypes`. Where the discriminator was
    made from a sentence encoder, this knows topics better than the template alone. `short_list=8` reads a text twice,
    and puts the eight nearest classes alone into its template: there the prototypes have to be set before.

    `from_pretrained` takes the arguments of `DPTForSequenceClassificationConfig.from_language_model_config`, the
    config's attributes, and `preset`, a name from `template.PRESETS` for what is not given.

    Example:
        >>> model = DPTForSequenceClassification.from_pretrained(
        ...     "google/electra-base-discriminator", label_words=["negative", "positive"]
        ... )
    """

    config_class = DPTForSequenceClassificationConfig
    # A discriminator's checkpoint has none of these: transformers is not to report them as missing.
    _keys_to_ignore_on_load_missing = [r"^label_tokens\.", r"^label_bias\.", r"^class_prototypes\."]  # noqa: RUF012

    # Looked up once: on a GPU it waits for the device.
    _prototypes_are_set = False

    def __init__(self, config: DPTForSequenceClassificationConfig) -> None:
        super().__init__(config)
        self._set_label_lists()
        if config.untied_labels:
            words: Any = self.get_input_embeddings()
            self.label_tokens = nn.Embedding(len(self.label_bank.label_token_ids), words.weight.shape[1])
        if config.label_bias:
            # An embedding of size 1, which PEFT can keep per adapter (`modules_to_save`) and choose per row.
            self.label_bias = nn.Embedding(self.label_bank.num_classes, 1)
        if config.prototypes:
            self.class_prototypes = nn.Linear(config.get_text_config().hidden_size, config.num_labels, bias=False)
        self.post_init()

    def _set_label_lists(self) -> None:
        """Make template bank and splicer of the config's label lists."""
        bank = LabelListBank(self.config.all_label_lists)
        splicer: TemplateSplicer
        if self.config.short_list is not None and self.config.short_list < self.config.num_labels:
            splicer = ShortListSplicer(bank.templates[0], self.config.short_list, self._row_layout)
        else:
            splicer = self._make_splicer(bank.templates, bank.label_token_index if self.config.untied_labels else None)
        self.label_bank, self.splicer = bank.to(self.device), splicer.to(self.device)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module in (getattr(self, "class_prototypes", None), getattr(self, "label_bias", None)):
            init.zeros_(module.weight)
        words: Any = self.get_input_embeddings()
        if self.config.untied_labels and module is self.label_tokens and not words.weight.is_meta:
            # They start as what the words in the text are (released code). Where a checkpoint has them, transformers
            # leaves what it has loaded.
            ids = torch.tensor(self.label_bank.label_token_ids, device=words.weight.device)
            init.copy_(module.weight, words.weight[ids])

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        list_names: Sequence[str] | torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Score the classes of a batch of texts.

        Args:
            input_ids: This and all that is not named here: see `TemplateModel.forward`.
            attention_mask: As there.
            token_type_ids: As there.
            position_ids: Refused.
            inputs_embeds: Refused.
            labels: (batch,) class indices, or (batch, classes) zeros and ones for multi-label classification.
            list_names: For every row the name of its label list (see `add_label_list`; `"default"` is the wrapper's
                own), or a tensor of indices into `model.list_names`. Default: all rows take the wrapper's own.
            **kwargs: As there.

        Returns:
            `loss` (Eq. 3: the binary cross entropy, summed over classes, mean over rows), `logits` (batch, classes),
            `hidden_states`, `attentions` (of the first pass, where there are several). With `list_names`, `logits` are
            as wide as the largest list in the batch, and `NO_CLASS` (-16384) where a row's own list has no such class.
        """
        return super().forward(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            labels,
            list_names=list_names,
            **kwargs,
        )

    def _answer(
        self,
        rows: dict[str, Any],
        labels: torch.Tensor | None,
        list_names: Sequence[str] | torch.Tensor | None = None,
        **further: Any,
    ) -> SequenceClassifierOutput:
        batch, width = rows["input_ids"].shape[0], self.label_bank.width(list_names)
        if self.config.prototypes and list_names is not None:
            raise ValueError("`list_names` are for a model without `prototypes`, which belong to its own label list")
        if isinstance(self.splicer, ShortListSplicer):
            return self._answer_from_short_list(rows, labels, further)
        if self.config.prototypes and labels is not None:
            labels = check_class_indices(labels, batch, self.num_labels)
        wants_states = further.get("output_hidden_states")
        further["output_hidden_states"] = wants_states or self.config.prototypes
        first, *others = self.label_bank.passes(list_names, batch)
        outputs, columns, text_mask = self._one_pass(rows, first, further)
        logits = self.label_bank.place(columns, first, columns.new_full((batch, width), NO_CLASS))
        for template_index in others:
            _, columns, _ = self._one_pass(rows, template_index, further)
            logits = self.label_bank.place(columns, template_index, logits)
        loss = None if labels is None else self._loss(logits, labels, own_list=list_names is None)
        if self.config.prototypes:
            text_state = mean_state(outputs.hidden_states[-1], text_mask)
            similar = self.prototype_logits(text_state)
            if labels is not None and loss is not None:
                loss = self._checked(loss + self.prototype_loss(text_state, similar, labels))
            logits = self.config.template_weight * logits + similar
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states if wants_states else None,
            attentions=outputs.attentions,
        )

    def _answer_from_short_list(
        self, rows: dict[str, Any], labels: torch.Tensor | None, further: dict[str, Any]
    ) -> SequenceClassifierOutput:
        """Choose classes by their prototypes, and let the discriminator judge those alone.

        `logits` are `NO_CLASS` outside of a row's list. In training the true class is always in it. The loss is that
        of the prototypes, over all classes, and Eq. 3 over the list.
        """
        if further.pop("output_attentions", None) or further.pop("output_hidden_states", None):
            raise ValueError(
                "with `short_list` a text is read twice, so there is no one set of attentions or hidden states: leave "
                "`output_attentions` and `output_hidden_states` out"
            )
        self._check_prototypes_are_set()
        states = self.text_states(rows, **further)
        similar = self.prototype_logits(states)
        classes = similar.topk(self.config.short_list, dim=1).indices
        if labels is not None:
            labels = check_class_indices(labels, *similar.shape)
            if self.training:
                missing = ~classes.eq(labels[:, None]).any(1)
                classes = torch.cat([classes[:, :-1], torch.where(missing, labels, classes[:, -1])[:, None]], dim=1)
        # By number, so that the place in the list does not tell how near a class is.
        classes = classes.sort(dim=1).values
        outputs, spliced = self._read(rows, classes, **further)
        own = self._class_logits(outputs, spliced)
        loss = None
        if labels is not None:
            self.config.problem_type = "single_label_classification"
            smoothing = self.config.label_smoothing
            targets = classes.eq(labels[:, None]).to(own.dtype)
            loss = dpt_loss(own, targets, multi_label=True, label_smoothing=smoothing)
            loss = self._checked(loss + self.prototype_loss(states, similar, labels))
        judged = self.config.template_weight * own + similar.gather(1, classes)
        logits = torch.full_like(similar, NO_CLASS).scatter(1, classes, judged.to(similar.dtype))
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _check_prototypes_are_set(self) -> None:
        weight: Any = self.class_prototypes.weight
        if self._prototypes_are_set or weight.is_meta or torch.compiler.is_compiling():
            return
        if not weight.any():
            raise ValueError(
                "`short_list` takes the classes whose prototypes are nearest, and all prototypes are still zero: call "
                "`model.set_prototypes(batches)` with labelled texts first"
            )
        self._prototypes_are_set = True

    def text_states(self, rows: Mapping[str, Any], **further: Any) -> torch.Tensor:
        """Return the mean state of every text in its (first) template, or in none for a short list: (batch, width)."""
        rows = {name: rows.get(name) for name in ("input_ids", "attention_mask", "token_type_ids")}
        outputs, spliced = self._read(rows, None, **{**further, "output_hidden_states": True, "return_dict": True})
        return mean_state(outputs.hidden_states[-1], spliced.text_mask)

    def prototype_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return `prototype_scale` times the product of directions of states and prototypes, (batch, classes).

        Prototypes have length one when they are set: then the product is the cosine. Training may change the length,
        and with it how likely a class is as a whole.

        Args:
            states: (batch, width), from `mean_state`.
        """
        directions = nn.functional.normalize(states, dim=-1)
        with full_precision(states):
            similar = self.class_prototypes(directions.to(self.class_prototypes.weight.dtype))
        return self.config.prototype_scale * similar.to(states.dtype)

    def prototype_loss(self, states: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss that trains states and prototypes.

        Args:
            states: (batch, width), the texts' mean states.
            logits: (batch, classes), from `prototype_logits`.
            labels: (batch,), class indices.

        Returns:
            The cross entropy, with the config's class weights and label smoothing, plus `pair_weight` * `pair_loss`.
        """
        config = self.config
        labels = check_class_indices(labels, *logits.shape)
        rows = nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=config.label_smoothing)
        weights = torch.ones_like(rows)
        if config.class_weights is not None:
            weights = torch.tensor(config.class_weights, device=rows.device, dtype=rows.dtype)[labels]
        # As in `dpt_loss`: a batch of nothing but classes of weight zero has the loss zero.
        loss = (rows * weights).sum() / weights.sum().clamp(min=torch.finfo(rows.dtype).tiny)
        return loss + config.pair_weight * pair_loss(states, labels)

    @torch.no_grad()
    def set_prototypes(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
        """Set the prototypes of classes from labelled texts.

        A class's prototype becomes the direction of the mean of its texts' directions. A class without a text keeps
        its prototype.

        Args:
            batches: Tokenizer output with `labels` (class indices), in as many batches as you like.

        Raises:
            ValueError: The model has no prototypes, or a label is no class.

        Example:
            >>> rows = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            >>> model.set_prototypes([{**rows, "labels": torch.tensor(labels)}])
        """
        if not hasattr(self, "class_prototypes"):
            raise ValueError("the model has no prototypes: load it with `prototypes=True`")
        weight: Any = self.class_prototypes.weight
        sums = torch.zeros_like(weight, dtype=torch.float32)
        with evaluating(self):
            for batch in batches:
                rows = {name: values.to(self.device) for name, values in batch.items() if name != "labels"}
                directions = nn.functional.normalize(self.text_states(rows).float(), dim=-1)
                labels = check_class_indices(batch["labels"].to(self.device), len(directions), len(sums))
                sums.index_add_(0, labels, directions)
        seen = sums.any(1, keepdim=True)
        weight.copy_(torch.where(seen, nn.functional.normalize(sums, dim=-1), weight))

    def _one_pass(
        self, rows: dict[str, Any], template_index: torch.Tensor, kwargs: dict[str, Any]
    ) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Read one template a row.

        Returns:
            The discriminator's outputs, the logits (batch, columns of the templates), and where the texts stand.
        """
        outputs, spliced = self._read(rows, template_index, **kwargs)
        logits = self._class_logits(outputs, spliced)
        classes = self.label_bank.rows[template_index]
        if self.config.label_bias:
            logits = logits + self._sign * self.label_bias(classes.expand(logits.shape)).squeeze(-1)
        if self.label_bank.is_calibrated:
            logits = logits - self.label_bank.calibration.to(logits.dtype)[classes]
        return outputs, logits, spliced.text_mask

    @property
    def _sign(self) -> int:
        """What turns the head's logits (high = replaced) into those of the classes (Eq. 2)."""
        return 1 if self.config.score_function == "sigmoid" else -1

    def _class_logits(self, outputs: Any, spliced: SplicedInputs) -> torch.Tensor:
        return class_scores(self._sign * outputs.logits, spliced, self.config.wordpieces, self.splicer.longest_label)

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, *, own_list: bool) -> torch.Tensor:
        kind, weights = told_problem_type(self.config.problem_type, labels), self.config.class_weights
        if weights is not None and not own_list:
            raise ValueError(
                "`class_weights` are those of the wrapper's own label list: train others without `list_names`"
            )
        loss = dpt_loss(
            logits,
            labels,
            multi_label=kind == "multi_label_classification",
            class_weights=None if weights is None else torch.tensor(weights, device=logits.device),
            label_smoothing=self.config.label_smoothing,
        )
        # The first labelled batch tells, and the config remembers. One that was refused tells nothing.
        self.config.problem_type = kind
        return self._checked(loss)

    @property
    def new_modules(self) -> list[str]:
        """Modules with parameters that are not pretrained: for PEFT's `modules_to_save`."""
        names = ("class_prototypes", "label_tokens", "label_bias")
        return [name for name in names if hasattr(self, name)]

    @property
    def list_names(self) -> list[str]:
        """The label lists that `forward` knows, the wrapper's own (`"default"`) first."""
        return list(self.label_bank.names)

    def add_label_list(
        self,
        name: str,
        label_words: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str | None = None,
        label_order: Sequence[int] | int | None = None,
        label_separator: str | None = None,
        classes_per_pass: int | None = None,
    ) -> None:
        """Let the same discriminator serve another task, row by row (`list_names` of `forward`).

        The list is part of the config: it is saved and loaded with the wrapper. With adapters, name a row's adapter
        and its label list: `model(**rows, adapter_names=[...], list_names=[...])`.

        Args:
            name: Its name in `list_names`. An existing one is replaced.
            label_words: One word a class.
            tokenizer: Tokenizer of the discriminator.
            template: Default: the wrapper's own, as for all that follow.
            label_order: Order of the classes in the template: `None` (as in `label_words`), a seed, or a permutation.
            label_separator: What stands between two classes.
            classes_per_pass: Most classes in one template; default: all.

        Raises:
            TypeError, ValueError: The choices cannot work, the name is that of the wrapper's own list, or an adapter
                holds the trainable label tokens, which cannot grow any more.
        """
        config, new = self.config, self.new_modules
        if config.prototypes:
            raise ValueError(
                "`add_label_list` is for a model without `prototypes`, which belong to its own label list"
            )
        if name == OWN_LIST:
            raise ValueError(f"`name` {OWN_LIST!r} is the wrapper's own list; load the wrapper with other label words")
        for part in new:
            if not isinstance(getattr(self, part), nn.Embedding) or name in self.list_names:
                raise ValueError(
                    f"a label list with trainable `{part}` must be new, and be added before get_peft_model, which "
                    "copies them"
                )
        resolved = resolve_label_list(
            tokenizer,
            label_words,
            template=template or config.template,
            label_order=label_order,
            label_separator=config.label_separator if label_separator is None else label_separator,
            wordpieces=config.wordpieces,
            classes_per_pass=classes_per_pass,
            minimum=1 if config.problem_type == "multi_label_classification" else 2,
        )
        # All lists are read in the same way, which stands once in the config.
        del resolved["wordpieces"]
        former, tokens = config.label_lists, len(self.label_bank.label_token_ids)
        config.label_lists = [other for other in former if other["name"] != name] + [{"name": name, **resolved}]
        try:
            config.check_vocabulary(LabelListBank(config.all_label_lists).templates)
            self._set_label_lists()
        except ValueError:
            config.label_lists = former
            raise
        if "label_bias" in new:
            self.label_bias = _grown(self.label_bias, self.label_bank.num_classes)
        if "label_tokens" in new:
            ids = self.label_bank.label_token_ids
            self.label_tokens = _grown(self.label_tokens, len(ids))
            words: Any = self.get_input_embeddings()
            with torch.no_grad():
                self.label_tokens.weight[tokens:] = words.weight[ids[tokens:]]

    def calibrate(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str] = ("", "N/A"), *, label_list: str = OWN_LIST
    ) -> torch.Tensor:
        """Take from every class what it gets without any content, for use without (or with little) training.

        A class word can look original because it is frequent, whatever the text. The mean logit of each class over
        content-free texts measures that, and is subtracted from then on (contextual calibration, Zhao et al. 2021, on
        the logits of Eq. 2): `sigmoid(logits) > 0.5` then says that the class looks more original behind this text
        than behind none. It is saved with the config.

        Args:
            tokenizer: Tokenizer of the discriminator.
            texts: Texts without content. None at all takes the calibration away.
            label_list: Which label list is calibrated.

        Returns:
            (classes,): what is subtracted.

        Raises:
            ValueError: There is no such label list.
        """
        if label_list not in self.list_names:
            known = ", ".join(map(repr, self.list_names))
            raise ValueError(f"`label_list` {label_list!r} does not exist; there are {known}")
        if self.config.prototypes:
            raise ValueError(
                "`calibrate` is for a model without `prototypes`, whose training weighs the classes itself"
            )
        if isinstance(texts, str):
            raise TypeError(f"`texts` must be a list of texts, got the string {texts!r}")
        self._set_calibration(label_list, None)
        if not texts:
            return torch.zeros(self.config.all_label_lists[label_list].num_classes)
        rows = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        with evaluating(self):
            logits = self(**rows, list_names=[label_list] * len(texts)).logits
        means = logits.float().mean(0)
        self._set_calibration(label_list, means.tolist())
        return means

    def _set_calibration(self, label_list: str, values: list[float] | None) -> None:
        if label_list == OWN_LIST:
            self.config.calibration = values
        else:
            self.config.label_lists = [
                {**own, "calibration": values} if own["name"] == label_list else own for own in self.config.label_lists
            ]
        self._set_label_lists()


def _grown(table: nn.Embedding, rows: int) -> nn.Embedding:
    """The same table with further rows of zeros."""
    weight = nn.functional.pad(table.weight.detach(), (0, 0, 0, rows - table.num_embeddings))
    return nn.Embedding.from_pretrained(weight, freeze=not table.weight.requires_grad)
