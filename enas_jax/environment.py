"""What of the environment could change a result or break a run: pinned by commands, refused from Python, or recorded.

JAX and Flax take some 150 flags from variables such as JAX_ENABLE_X64. Those that choose devices, caches, logs and dumps are
the user's (tests/test_environment.py lists them). The others stand here, at the value that results are made with: the default.
"""
from __future__ import annotations

import contextlib
import enum
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from enas_jax.errors import UserError

OFF = dict.fromkeys((
    # Numbers.
    'jax_accurate_erf_inv', 'jax_enable_custom_prng', 'jax_enable_x64', 'jax_high_dynamic_range_gumbel',
    'jax_softmax_custom_jvp', 'jax_threefry_gpu_kernel_lowering',
    # How programs are traced, differentiated and compiled.
    'check_vma', 'eager_constant_folding', 'jax_bcoo_cusparse_lowering', 'jax_custom_jvp3', 'jax_custom_vjp3',
    'jax_disable_jit', 'jax_disable_most_optimizations', 'jax_enable_pgle', 'jax_refs_to_pins', 'jax_remat3',
    'jax_remat_barrier_no_cotangents', 'jax_remove_size_one_mesh_axis_from_type', 'jax_scan3', 'jax_use_cpp_shard_args',
    'jax_use_simplified_jaxpr_constants',
    # What raises in the midst of a sound training, or where a candidate would only fail.
    'jax_check_static_indices', 'jax_check_tracer_leaks', 'jax_debug_infs', 'jax_debug_key_reuse', 'jax_debug_nans',
    'jax_disable_bwd_checks', 'jax_disable_vmap_shmap_error', 'jax_disallow_mesh_context_manager', 'jax_enable_checks',
    'jax_experimental_unsafe_xla_runtime_errors', 'jax_no_execution', 'jax_no_tracing', 'jax_raise_persistent_cache_errors',
    'jax_thread_guard'), False)
ON = dict.fromkeys((
    'jax_allow_f16_reductions', 'jax_auto_pcast', 'jax_compiler_enable_remat_pass', 'jax_mutable_array_checks',
    'jax_raise_on_ppermute_sort_diff', 'jax_threefry_partitionable', 'jax_use_direct_linearize', 'jax_use_rgv3',
    'jax_use_shardy_partitioner'), True)
JAX: dict[str, Any] = {  # A version of JAX has most of them, not all.
    **OFF, **ON, 'jax_default_prng_impl': 'threefry2x32', 'jax_random_seed_offset': 0, 'jax_legacy_prng_key': 'allow',
    'jax_numpy_dtype_promotion': 'standard', 'jax_numpy_rank_promotion': 'allow', 'jax_default_matmul_precision': None,
    'jax_use_hlo_logistic_lowering': None, 'jax_explicit_x64_dtypes': 'warn', 'jax_embedded_constants_max_bytes': 32,
    'jax_optimization_level': 'UNKNOWN', 'jax_exec_time_optimization_effort': 0.0, 'jax_memory_fitting_effort': 0.0,
    'jax_memory_fitting_level': 'O2',
    'jax_error_checking_behavior_divide': 'ignore', 'jax_error_checking_behavior_nan': 'ignore',
    'jax_error_checking_behavior_oob': 'ignore', 'jax_array_garbage_collection_guard': None, 'jax_transfer_guard': None,
    'jax_transfer_guard_device_to_device': None, 'jax_transfer_guard_device_to_host': None,
    'jax_transfer_guard_host_to_device': None}
FLAX: dict[str, Any] = {
    'flax_always_shard_variable': True, 'flax_array_ref': False, 'flax_hijax_variable': False, 'flax_pytree_module': True,
    'flax_use_flaxlib': False, 'nnx_graph_mode': True, 'nnx_graph_updates': True, 'nnx_sow_capture_noop': False}
RECORDED = ('LIBTPU_INIT_ARGS', 'NPY_DISABLE_CPU_FEATURES', 'NVIDIA_TF32_OVERRIDE', 'OPENBLAS_CORETYPE', 'XLA_FLAGS')
# Words for a truth value, as JAX and Flax read them.
_TRUTH = {True: ('1', 'on', 't', 'true', 'y', 'yes'), False: ('', '0', 'f', 'false', 'n', 'no', 'off')}
# Variables that JAX and Flax read begin so; these, which are often set, they take as they are.
_PREFIXES = {'jax': ('JAX_', 'JAX2TF_', 'MOCK_'), 'flax': ('FLAX_', 'NNX_')}
_TEXTS = {'JAX_PLATFORMS', 'JAX_COMPILATION_CACHE_DIR'}
_forgotten: dict[str, str] = {}  # By flag.
_NO_RESULT = ('--xla_force_host_platform_device_count', '--xla_dump')  # Of XLA_FLAGS.


def forget() -> None:
  """Takes pinned variables with other values out of the environment, before JAX and Flax are imported: they raise at some.

  For commands; `pin` tells of them. A flag of Flax that it can read is left to it. A variable that is the user's and cannot be
  read ends the process with one line and exit code 2.
  """
  if 'jax' in sys.modules:  # Somebody's start-up file imported it; `pin` sets back what it read.
    return
  for name, value in {**JAX, **FLAX}.items():
    text = os.environ.get(name.upper())
    if text is None or (text.lower() in _TRUTH[value] if isinstance(value, bool) else text == str(value)):
      continue
    if name in JAX or text.lower() not in _TRUTH[True] + _TRUTH[False]:
      _forgotten[name] = os.environ.pop(name.upper())
  for package, prefixes in _PREFIXES.items():
    if left := sorted(name for name in os.environ if name.startswith(prefixes) and name not in _TEXTS):
      _try(package, left)


def _try(package: str, variables: list[str]) -> None:
  """Imports a package; ends the process with one line if it cannot read one of its variables."""
  try:
    importlib.import_module(package)
  except ValueError as error:
    print(f'error: {" ".join(str(error).split())}; correct the variable, or unset it (set here: {", ".join(variables)})',
          file=sys.stderr)
    sys.exit(2)


def pin() -> list[str]:
  """Sets what could change a result back to what results are made with, here and in the processes that this one will start.

  For commands, which own their process.

  Returns:
    One line for each variable that is so of no effect.

  Raises:
    UserError: a flag of Flax is another, which was used when Flax was imported.
  """
  import jax
  given = {name: os.environ.pop(name.upper(), None) for name in JAX} | _forgotten
  for name, value in JAX.items():
    if name in jax.config.values and _plain(jax.config.values[name]) != value:
      jax.config.update(name, value)
      _forgotten[name] = str(given[name])
  notes = [f'{name.upper()}={text} is of no effect: results follow from the settings alone' for name, text in _forgotten.items()
           if name in jax.config.values or name in FLAX]
  _forgotten.clear()
  if 'flax' in sys.modules:
    check()
  for name in FLAX:
    os.environ.pop(name.upper(), None)
  return notes


def check() -> None:
  """Checks that this process computes as results are made. For Python users, whose process is not to be changed.

  Raises:
    UserError: a flag of JAX or Flax is another, for the process or within the present context; the message names it.
  """
  import flax
  import jax
  flags: tuple[tuple[str, Any, Mapping[str, Any], Mapping[str, Any]], ...] = (
      ('jax', jax.config, jax.config.values, JAX), ('flax', flax.config, flax.config._values, FLAX))
  for package, config, values, pinned in flags:
    for name, wanted in pinned.items():
      everywhere = values.get(name, wanted)
      for value in (everywhere, getattr(config, name, everywhere)):  # What other threads see, and what this one does.
        if _plain(value) != wanted:
          raise UserError(
              f'{name} is {_plain(value)!r} in this process, which could change a result; start Python without {name.upper()}, '
              f'or call {package}.config.update({name!r}, {wanted!r}) before')


@contextlib.contextmanager
def neutral() -> Iterator[None]:
  """Within the block this thread computes with a trained network as it was trained, whatever the process's flags."""
  import jax
  with jax.enable_x64(False), jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'), \
       jax.transfer_guard('allow'), jax.default_matmul_precision(None), jax.disable_jit(False):
    yield


def recorded() -> dict[str, str]:
  """Returns the variables that compilers and libraries read by themselves, if set: they can change the last digits."""
  found = {name: os.environ[name] for name in RECORDED if os.environ.get(name)}
  if flags := [flag for flag in found.pop('XLA_FLAGS', '').split() if not flag.startswith(_NO_RESULT)]:
    found['XLA_FLAGS'] = ' '.join(flags)
  return found


def _plain(value: Any) -> Any:
  """Returns a flag's value as `update` takes it."""
  if isinstance(value, enum.Enum):
    return value.value if isinstance(value, str) else value.name.lower()
  return value
