"""Trials side by side, in processes of their own. Imports no JAX: every process imports this."""
from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import uuid
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from enas_jax.compare.benchmark import Benchmark, run
from enas_jax.plugins import load_all
from enas_jax.workdir import disk_errors

Job = tuple[str, int]  # Strategy and seed.


def run_all(
    jobs: Sequence[Job], benchmark: Benchmark, config: ConfigDict, *, folder: Path, processes: int,
    plugins: Sequence[str] = ()) -> Generator[tuple[Job, dict[str, Any]], None, None]:
  """Yields each trial's record (see `run`) as soon as it is there. Closed early, it starts no more trials.

  Args:
    jobs: what to run.
    benchmark: on what.
    config: the settings of all strategies.
    folder: an empty one, for records on their way here.
    processes: how many run at once.
    plugins: files that each process reads first.

  Raises what a trial raised.
  """
  context = multiprocessing.get_context('spawn')  # A fork of a process with threads, as JAX has, can hang.
  with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(plugins,)) as pool:
    futures = {pool.submit(_run, folder, name, benchmark, config, seed): (name, seed) for name, seed in jobs}
    try:
      for future in concurrent.futures.as_completed(futures):
        file = folder / future.result()
        with disk_errors(folder):
          record = json.loads(file.read_bytes())
          file.unlink()
        yield futures[future], record
    finally:
      pool.shutdown(cancel_futures=True)


def _run(folder: Path, name: str, benchmark: Benchmark, config: ConfigDict, seed: int) -> str:
  """Runs a trial. Returns the name of a file in the folder with its record.

  The record itself is longer than what goes through a pipe at once (PIPE_BUF), and where a process is killed within such an
  answer, the pool waits for the rest for ever.
  """
  record, file = json.dumps(run(name, benchmark, config, seed)), f'{uuid.uuid4()}.json'
  with disk_errors(folder):
    (folder / file).write_text(record)
  return file


def _start(plugins: Sequence[str]) -> None:
  """Reads the plugins. Leaves Ctrl-C to the parent, and ends with it even where that is killed."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()
  assert parent is not None

  def watch() -> None:
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
  load_all(plugins)
