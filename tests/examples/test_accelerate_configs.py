"""The files in `examples/accelerate_configs/`: accelerate reads each, and the one for CPU runs here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

from tests.training.tiny import write_discriminator, write_task

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "examples" / "accelerate_configs"


def launch_arguments(name: str):
    arguments = launch_command_parser().parse_args(["--config_file", str(CONFIGS / f"{name}.yaml"), "script.py"])
    return _validate_launch_command(arguments)[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ddp", "multi_gpu"),
        ("ddp_cpu", "multi_gpu"),
        ("fsdp2", "use_fsdp"),
        ("deepspeed_zero2", "use_deepspeed"),
        ("deepspeed_zero3", "use_deepspeed"),
    ],
)
def test_accelerate_reads_the_file_as_it_is_meant(name, kind):
    arguments = launch_arguments(name)
    assert arguments.num_processes == 2
    kinds = ("multi_gpu", "use_fsdp", "use_deepspeed")
    assert [other for other in kinds if getattr(arguments, other)] == [kind]
    assert arguments.use_cpu == (name == "ddp_cpu")
    if kind == "use_deepspeed":
        assert arguments.zero_stage == int(name[-1])


def test_every_file_is_tested_above():
    names = {path.stem for path in CONFIGS.iterdir()}
    assert names == {"ddp", "ddp_cpu", "fsdp2", "deepspeed_zero2", "deepspeed_zero3"}


def test_the_fsdp_file_makes_the_plugin_that_it_describes(monkeypatch):
    for name, value in prepare_multi_gpu_env(launch_arguments("fsdp2")).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.transformer_cls_names_to_wrap == ["BertLayer"]
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert plugin.reshard_after_forward is True


def test_two_launched_processes_train_what_one_trains(tmp_path):
    config = write_discriminator(tmp_path / "discriminator") / "config.json"
    # two processes would draw other numbers than one for dropout
    config.write_text(re.sub(r'(_dropout_prob": )[\d.]+', r"\g<1>0.0", config.read_text()))
    write_task(tmp_path / "train.csv", 16, 0)
    script = [str(ROOT / "examples" / "run_text_classification.py")]
    words = [
        *("--method", "deep_prompt", "--model_name_or_path", tmp_path / "discriminator", "--use_cpu", "--do_train"),
        *("--train_file", tmp_path / "train.csv", "--num_virtual_tokens", 3, "--max_steps", 3),
        *("--ddp_find_unused_parameters", "false", "--report_to", "none", "--disable_tqdm", "true"),
    ]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / "ddp_cpu.yaml"]
    runs = {
        "one": [sys.executable, *script, *words, "--per_device_train_batch_size", 4],
        "two": [*launch, "--main_process_port", "0", *script, *words, "--per_device_train_batch_size", 2],
    }
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    started = [
        subprocess.Popen(
            [str(word) for word in [*command, "--output_dir", tmp_path / name]],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, command in runs.items()
    ]
    for process in started:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in runs)
    assert one.keys() == two.keys()
    for name, weights in one.items():
        assert torch.allclose(weights, two[name], atol=2e-6), name
