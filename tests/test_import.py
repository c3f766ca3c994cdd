"""What `import dpt_peft` brings along."""

import subprocess
import sys

# Slow to load, and needed by scripts only.
NOT_AT_IMPORT = (
    "accelerate.commands",
    "datasets",
    "evaluate",
    "matplotlib",
    "optuna",
    "pandas",
    "rich",
    "sklearn",
    "transformers.trainer",
)


def test_importing_the_package_loads_nothing_slow_beyond_peft():
    code = f"""
import sys, peft
before = set(sys.modules)
import dpt_peft
print([name for name in {NOT_AT_IMPORT!r} if name in sys.modules and name not in before])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
