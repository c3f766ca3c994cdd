"""Runs a function in several processes that know each other, as `accelerate launch` would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch


def run_in_processes(function: Callable[..., Any], *arguments: object, processes: int = 2) -> list[Any]:
    """Calls the function in each process and returns what they return, by rank; None for one that was killed.

    The processes are forked from a server that has imported the libraries and done nothing else.

    Raises:
        RuntimeError: with the traceback of the first process that failed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "peft", "accelerate", "dpt_peft", function.__module__])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(sender, rank, processes, port, function, arguments), daemon=True)
        process.start()
        sender.close()
        started.append((process, receiver))
    outcomes: list[tuple[str, Any]] = []
    try:
        outcomes += [_receive(receiver) for _, receiver in started]
    finally:
        for process, _ in started:
            process.kill()
    for kind, outcome in outcomes:
        if kind == "error":
            raise RuntimeError(outcome)
    return [outcome for _, outcome in outcomes]


def _receive(receiver: Any) -> tuple[str, Any]:
    try:
        return receiver.recv() if receiver.poll(120) else ("error", "a process did not answer within two minutes")
    except EOFError:
        return "killed", None


def _work(
    sender: Any, rank: int, processes: int, port: int, function: Callable[..., Any], arguments: tuple[object, ...]
) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    if processes > 1:
        os.environ |= {name: str(value) for name, value in place.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    try:
        sender.send(("result", function(*arguments)))
    except Exception:
        sender.send(("error", f"rank {rank}:\n{traceback.format_exc()}"))
