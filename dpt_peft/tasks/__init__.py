"""Task families: what `dpt_peft.training.run` can run, and the parts of each for Trainer scripts of your own.

The names and their modules stand in `__init__.pyi`; they are imported when they are asked for.
"""

from __future__ import annotations

from dpt_peft._lazy import lazily

__getattr__, __all__ = lazily(__name__, __file__)
