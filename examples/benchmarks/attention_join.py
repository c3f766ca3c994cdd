"""One attention call with prompts, on CPU: the kernel's share, the copy's, and two other ways to bring prompts in.

    OMP_NUM_THREADS=1 python examples/benchmarks/attention_join.py

Milliseconds of the process, medians of interleaved calls; base size (12 heads of 64), float32. The first rows are
without gradients, the last two forward and backward with BERT's dropout of 0.1, for which torch has no fused kernel on
CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from deep_prompt_cost import milliseconds
from torch.nn.functional import scaled_dot_product_attention

HEADS, SIZE, PROMPTS = 12, 64, 20
SHAPES = ((4, 128), (8, 32), (16, 128))


def join(prompt: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """As deep prompts do it: (length, heads * size) before (batch, heads, tokens, size)."""
    heads = prompt.unflatten(-1, (HEADS, SIZE)).transpose(0, 1)
    return torch.cat([heads.expand(len(tokens), -1, -1, -1), tokens], dim=2)


def join_as_projected(prompt: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """In the memory layout that the projections leave: heads within tokens."""
    split = prompt.unflatten(-1, (HEADS, SIZE)).expand(len(tokens), -1, -1, -1)
    return torch.cat([split, tokens.transpose(1, 2)], dim=1).transpose(1, 2)


def merge(
    query: torch.Tensor,
    tokens: tuple[torch.Tensor, torch.Tensor],
    prompts: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Prompts and tokens attended to apart, merged by their log-sum-exp."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    apart = [p.unflatten(-1, (HEADS, SIZE)).transpose(0, 1).expand(len(query), -1, -1, -1) for p in prompts]
    of_tokens, token_mass = kernel(query, *tokens)
    of_prompts, prompt_mass = kernel(query, *apart)
    return torch.lerp(of_prompts, of_tokens, torch.sigmoid(token_mass - prompt_mass)[..., None])


@torch.no_grad()
def measure(rows: int, text_length: int, rounds: int) -> dict[str, float]:
    """Milliseconds by way of doing it, after checking that all ways agree."""
    query, key, value = (torch.randn(rows, text_length, HEADS, SIZE).transpose(1, 2) for _ in range(3))
    prompt_key, prompt_value = torch.randn(2, PROMPTS, HEADS * SIZE).unbind(0)
    long_key, long_value = join(prompt_key, key), join(prompt_value, value)
    attend = scaled_dot_product_attention
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "the kernel on the tokens alone": lambda: attend(query, key, value),
        "the kernel on prompts and tokens": lambda: attend(query, long_key, long_value),
        "join and kernel, as it is done": lambda: attend(query, join(prompt_key, key), join(prompt_value, value)),
        "joined in the layout of the projections": lambda: attend(
            query, join_as_projected(prompt_key, key), join_as_projected(prompt_value, value)
        ),
        "apart, merged by log-sum-exp": lambda: merge(query, (key, value), (prompt_key, prompt_value)),
    }
    expected, *others = (way() for name, way in ways.items() if "alone" not in name)
    assert all(torch.allclose(other, expected, atol=1e-5) for other in others)
    return milliseconds(ways, rounds, "cpu")


def measure_training(rows: int, text_length: int, rounds: int) -> dict[str, float]:
    """Milliseconds of forward and backward for both ways to join."""
    query, key, value = torch.randn(3, rows, text_length, HEADS, SIZE, requires_grad=True).transpose(2, 3).unbind(0)
    prompt_key, prompt_value = torch.randn(2, PROMPTS, HEADS * SIZE, requires_grad=True).unbind(0)

    def train(how: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        keys, values = how(prompt_key, key), how(prompt_value, value)
        output = scaled_dot_product_attention(query, keys, values, dropout_p=0.1)
        inputs = [query, key, value, prompt_key, prompt_value]
        torch.autograd.grad(output, inputs, torch.ones_like(output))

    named = {"training, as it is done": join, "training, in the layout of the projections": join_as_projected}
    return milliseconds({name: partial(train, how) for name, how in named.items()}, rounds, "cpu")


def main() -> None:
    """Prints a row per way and a column per shape."""
    torch.set_num_threads(1)
    columns = [measure(*shape, rounds=60) | measure_training(*shape, rounds=20) for shape in SHAPES]
    print(f"| | {' | '.join(f'{rows} x {length} tokens' for rows, length in SHAPES)} |")
    print(f"| -- | {' | '.join('--:' for _ in SHAPES)} |")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(f'{column[name]:.2f} ms' for column in columns)} |")


if __name__ == "__main__":
    main()
