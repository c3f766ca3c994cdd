"""Corruption: only tokens that changed are labelled, special tokens never; the sources draw what they say."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from dpt_peft.pretraining.replaced_tokens import (
    IGNORED,
    CorpusReplacements,
    GeneratorReplacements,
    ReplacedTokenPretraining,
    Replacements,
    ReplacementSource,
    corrupt,
    draw_positions,
    replaced_token_loss,
)

VOCABULARY, MASK = 20, 4
SIZES = {
    "vocab_size": VOCABULARY,
    "embedding_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}


def make_rows(batch: int = 64, length: int = 20) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random tokens 5..19 between [CLS] = 2 and [SEP] = 3, the last two columns of every second row padding."""
    input_ids = torch.randint(5, VOCABULARY, (batch, length))
    mask = torch.ones_like(input_ids)
    mask[::2, -2:] = 0
    input_ids[:, 0] = 2
    input_ids[torch.arange(batch), mask.sum(1) - 1] = 3
    input_ids[mask == 0] = 0
    return input_ids, mask, input_ids >= 5


def make_source(**changes) -> CorpusReplacements:
    options = {"corpus": torch.randint(5, VOCABULARY, (2000,)), "embeddings": torch.randn(VOCABULARY, 8), "nearest": 3}
    return CorpusReplacements(**{**options, **changes})


class Same:
    def __call__(self, input_ids, attention_mask, positions):
        return Replacements(input_ids[positions])


def test_labels_say_exactly_which_tokens_changed():
    input_ids, mask, replaceable = make_rows()
    rows = corrupt(input_ids, mask, replaceable, make_source(), share=0.4)
    changed = rows.input_ids != input_ids
    assert changed.any()
    assert torch.equal(rows.labels == 1, changed)
    assert torch.equal(rows.labels == IGNORED, ~replaceable)
    assert not changed[~replaceable].any()
    assert rows.input_ids[replaceable].min() >= 5  # nothing that the corpus lacks, special tokens above all


def test_a_proposal_equal_to_the_original_is_original():
    input_ids, mask, replaceable = make_rows()
    rows = corrupt(input_ids, mask, replaceable, Same(), share=0.5)
    assert torch.equal(rows.input_ids, input_ids)
    assert not (rows.labels == 1).any()


def test_draw_positions_takes_the_share_of_each_row():
    replaceable = torch.zeros(3, 40, dtype=torch.bool)
    replaceable[0], replaceable[1, :10] = True, True
    drawn = draw_positions(replaceable, 0.15)
    assert drawn.sum(1).tolist() == [6, 2, 0]
    assert not drawn[~replaceable].any()
    often = torch.stack([draw_positions(replaceable, 0.15) for _ in range(400)]).float().mean(0)[0]
    assert (often - 0.15).abs().max() < 0.08  # every place alike


def test_a_short_row_is_corrupted_at_least_once():
    replaceable = torch.tensor([[False, True, True, False]])
    assert draw_positions(replaceable, 0.15).sum() == 1


def test_same_seed_same_rows():
    input_ids, mask, replaceable = make_rows()
    source = make_source()
    torch.manual_seed(3)
    first = corrupt(input_ids, mask, replaceable, source)
    torch.manual_seed(3)
    assert torch.equal(first.input_ids, corrupt(input_ids, mask, replaceable, source).input_ids)
    assert not torch.equal(first.input_ids, corrupt(input_ids, mask, replaceable, source).input_ids)


def test_the_three_kinds_of_corpus_replacements():
    # 5 is always followed by 6 or, three times as often, by 7; 18 and 19 are frequent; the neighbours of 6 are 8 and
    # 9.
    corpus = torch.tensor([5, 7, 5, 7, 5, 6, 5, 7] + [18, 19, 18, 19] * 20 + [8, 9, 10])
    embeddings = torch.eye(VOCABULARY)
    embeddings[8, 6] = embeddings[9, 6] = 1.0
    source = CorpusReplacements(corpus, embeddings, nearest=2)
    row = torch.tensor([[5, 6]])
    drawn = source(
        row.expand(30_000, 2), torch.ones(30_000, 2), torch.tensor([[False, True]]).expand(30_000, 2)
    ).tokens
    share = {token: count / 30_000 for token, count in Counter(drawn.tolist()).items()}
    unigram = torch.bincount(corpus, minlength=VOCABULARY) / corpus.numel()
    followers = {7: 3 / 4, 6: 1 / 4}
    for token in range(VOCABULARY):
        expected = (unigram[token].item() + followers.get(token, 0.0) + {8: 0.5, 9: 0.5}.get(token, 0.0)) / 3
        assert share.get(token, 0.0) == pytest.approx(expected, abs=0.012), token


def test_a_left_neighbour_without_followers_draws_by_frequency():
    corpus = torch.tensor([5, 6] * 50 + [7])
    source = CorpusReplacements(corpus, torch.randn(VOCABULARY, 4), nearest=1)
    for left in (2, 7, VOCABULARY - 1):  # [CLS]; the corpus' last word; the vocabulary's last id
        row = torch.tensor([[left, 5]]).expand(300, 2)
        tokens = source(row, torch.ones_like(row), torch.tensor([[False, True]]).expand(300, 2)).tokens
        assert set(tokens.tolist()) <= {5, 6, 7}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": torch.tensor([5])}, "corpus"),
        ({"corpus": torch.tensor([5, VOCABULARY])}, "corpus"),
        ({"nearest": 0}, "nearest"),
        ({"nearest": 15}, "nearest"),
    ],
)
def test_bad_statistics(changes, message):
    with pytest.raises(ValueError, match=message):
        make_source(**changes)


def test_generator_sees_masks_and_learns_from_the_original():
    generator = ElectraForMaskedLM(ElectraConfig(**SIZES)).eval()
    reference = ElectraForMaskedLM(ElectraConfig(**SIZES)).eval()
    reference.load_state_dict(generator.state_dict())
    source = GeneratorReplacements(generator, MASK)
    input_ids, mask, replaceable = make_rows(8)
    positions = draw_positions(replaceable, 0.3)
    found = source(input_ids, mask, positions)
    labels = input_ids.masked_fill(~positions, -100)
    masked = torch.where(positions, MASK, input_ids)
    expected = reference(input_ids=masked, attention_mask=mask, labels=labels).loss
    assert found.loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert found.tokens.shape == (int(positions.sum()),)
    assert not found.tokens.requires_grad


def test_generator_holds_no_shared_tensors():
    """Trainer's safetensors checkpoints refuse them."""
    source = GeneratorReplacements(ElectraForMaskedLM(ElectraConfig(**SIZES)), MASK)
    places = [parameter.data_ptr() for parameter in source.state_dict().values()]
    assert len(places) == len(set(places))


def test_sources_meet_the_interface():
    assert isinstance(make_source(), ReplacementSource)
    assert isinstance(GeneratorReplacements(ElectraForMaskedLM(ElectraConfig(**SIZES)), MASK), ReplacementSource)


def test_corpus_statistics_are_not_part_of_checkpoints():
    assert make_source().state_dict() == {}


def test_loss_by_hand():
    logits = torch.tensor([[2.0, -1.0, 3.0, 0.5], [0.0, 1.0, 1.0, 1.0], [9.0, 9.0, 9.0, 9.0]])
    labels = torch.tensor([[1, 0, IGNORED, 0], [IGNORED, 1, IGNORED, IGNORED], [IGNORED] * 4])
    p = 1 / (1 + torch.exp(-logits))
    first = -(p[0, 0].log() + (1 - p[0, 1]).log() + (1 - p[0, 3]).log()) / 3
    second = -p[1, 1].log()
    assert replaced_token_loss(logits, labels).item() == pytest.approx(((first + second) / 2).item(), abs=1e-6)


def test_loss_of_full_rows_is_electras():
    discriminator = ElectraForPreTraining(ElectraConfig(**SIZES)).eval()
    input_ids = torch.randint(5, VOCABULARY, (4, 10))
    labels = torch.randint(2, (4, 10))
    out = discriminator(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), labels=labels)
    assert replaced_token_loss(out.logits, labels).item() == pytest.approx(out.loss.item(), abs=1e-6)


def test_known_rows_pass_unchanged_and_clean_rows_are_corrupted():
    discriminator = ElectraForPreTraining(ElectraConfig(**SIZES)).eval()
    model = ReplacedTokenPretraining(discriminator, make_source(), share=0.5).eval()
    input_ids, mask, replaceable = make_rows(8)
    known = torch.where(replaceable, torch.randint(2, input_ids.shape), IGNORED)
    out = model(input_ids, mask, known)
    expected = discriminator(input_ids=input_ids, attention_mask=mask).logits
    assert torch.equal(out.logits, expected)
    assert torch.equal(out.loss, replaced_token_loss(expected, known))

    listed = known.clone()
    listed[4:] = IGNORED
    replaceable[:4] = False  # rows 0-3 carry labels, rows 4-7 are text
    changed = model(input_ids, mask, listed, replaceable)
    assert torch.equal(changed.logits[:4], expected[:4])
    assert all(not torch.equal(changed.logits[row], expected[row]) for row in range(4, 8))


def test_generator_and_discriminator_both_learn():
    generator = GeneratorReplacements(ElectraForMaskedLM(ElectraConfig(**SIZES)), MASK)
    model = ReplacedTokenPretraining(ElectraForPreTraining(ElectraConfig(**SIZES)), generator)
    input_ids, mask, replaceable = make_rows(8)
    model(input_ids, mask, torch.full_like(input_ids, IGNORED), replaceable).loss.backward()
    for part in (model.discriminator, model.source):
        # token types, positions past the row and the pooler-free rest aside, every matrix takes part
        assert all(p.grad is not None for name, p in part.named_parameters() if "embeddings_project" not in name)


def test_share_outside_the_unit_interval():
    with pytest.raises(ValueError, match=r"share=1\.5"):
        ReplacedTokenPretraining(ElectraForPreTraining(ElectraConfig(**SIZES)), make_source(), share=1.5)


def test_a_teachers_states_of_clean_text_are_kept():
    torch.manual_seed(0)
    discriminator = ElectraForPreTraining(ElectraConfig(**SIZES)).double().eval()
    teacher = ElectraForPreTraining(ElectraConfig(**SIZES)).double().eval().electra
    input_ids, mask, replaceable = make_rows(batch=6)
    labels = torch.full_like(input_ids, IGNORED)
    # the second half of each row stands for listed words
    text_mask = mask.bool() & (torch.arange(20) < 10)
    model = ReplacedTokenPretraining(discriminator, make_source(), 0.3, teacher, teacher_weight=2.0).train()
    model.discriminator.eval()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())

    torch.manual_seed(1)
    outputs = model(input_ids, mask, labels, replaceable, text_mask)
    torch.manual_seed(1)
    plain = ReplacedTokenPretraining(discriminator, model.source, 0.3)(input_ids, mask, labels, replaceable)
    torch.manual_seed(1)
    corrupted = corrupt(input_ids, mask, replaceable, model.source, 0.3).input_ids
    distances = []
    for row in range(6):
        target = teacher(input_ids[row : row + 1, :10]).last_hidden_state[0].mean(0)
        seen = discriminator.electra(corrupted[row : row + 1], attention_mask=mask[row : row + 1])
        distances.append(1 - torch.cosine_similarity(seen.last_hidden_state[0, :10].mean(0), target, dim=0))
    torch.testing.assert_close(outputs.loss, plain.loss + 2 * torch.stack(distances).mean())
    assert torch.equal(outputs.logits, plain.logits)
