"""What the environment decides: no flag of JAX or Flax changes a result, and what JAX cannot start on is said in one line."""
import contextlib
import json
import os
import subprocess
import sys

import flax
import jax
import numpy as np
import pytest
from support.run_records import image_part, same_run

import enas_jax
from enas_jax import cli, environment, machine, predictors
from enas_jax.config import get_config
from enas_jax.errors import UserError
from enas_jax.estimators import Execution
from enas_jax.workdir import Workdir

pytest_plugins = ['support.search_fixtures']

FREE = {  # Flags that are the user's: devices, caches, logs, dumps, clusters, exports, and what no network here is made of.
    'jax_backend_target', 'jax_captured_constants_report_frames', 'jax_captured_constants_warn_bytes', 'jax_check_proxy_envs',
    'jax_compilation_cache_check_contents', 'jax_compilation_cache_dir', 'jax_compilation_cache_expect_pgle',
    'jax_compilation_cache_include_metadata_in_key', 'jax_compilation_cache_max_size', 'jax_compiler_detailed_logging_min_ops',
    'jax_cpu_collectives_implementation', 'jax_cpu_enable_async_dispatch', 'jax_cpu_get_global_topology_timeout_minutes',
    'jax_cpu_get_local_topology_timeout_minutes', 'jax_cross_host_transfer_socket_address',
    'jax_cross_host_transfer_timeout_seconds', 'jax_cross_host_transfer_transfer_size', 'jax_cross_host_transport_addresses',
    'jax_cuda_visible_devices', 'jax_debug_leaked_clients_on_clear_backends', 'jax_debug_log_modules', 'jax_default_device',
    'jax_distributed_debug', 'jax_distributed_verify_secure_credentials', 'jax_dump_ir_modes', 'jax_dump_ir_to',
    'jax_enable_compilation_cache', 'jax_enable_preemption_service', 'jax_enable_recoverability', 'jax_explain_cache_misses',
    'jax_export_calling_convention_version', 'jax_export_deserialize_expired_versions',
    'jax_export_ignore_forward_compatibility', 'jax_force_dcn_cross_host_transfers',
    'jax_hlo_source_file_canonicalization_regex', 'jax_include_debug_info_in_dumps',
    'jax_include_full_tracebacks_in_locations', 'jax_log_checkpoint_residuals', 'jax_log_compiles', 'jax_logging_level',
    'jax_mock_gpu_topology', 'jax_mosaic_allow_hlo', 'jax_mosaic_unzip_debug_locations', 'jax_mtls_ca_file',
    'jax_mtls_cert_file', 'jax_mtls_key_file', 'jax_mtls_peer_uri_prefix', 'jax_num_cpu_devices', 'jax_oneapi_visible_devices',
    'jax_pallas_auto_assign_collective_ids', 'jax_pallas_auto_assign_collective_ids_limit', 'jax_pallas_enable_debug_checks',
    'jax_pallas_poison_buffers', 'jax_pallas_use_mosaic_gpu', 'jax_pallas_verbose_errors',
    'jax_persistent_cache_enable_xla_caches', 'jax_persistent_cache_min_compile_time_secs',
    'jax_persistent_cache_min_entry_size_bytes', 'jax_pgle_aggregation_percentile', 'jax_pgle_profiling_runs',
    'jax_pjrt_client_create_options', 'jax_platform_name', 'jax_platforms', 'jax_pprint_use_color',
    'jax_ragged_dot_use_gpu_pallas_triton_lowering', 'jax_ragged_dot_use_ragged_dot_instruction',
    'jax_remove_custom_partitioning_ptr_from_cache_key', 'jax_rocm_visible_devices', 'jax_send_traceback_to_runtime',
    'jax_serialization_version', 'jax_share_binary_between_hosts', 'jax_share_binary_between_hosts_timeout_ms',
    'jax_sort_devices_by_process_index', 'jax_source_url_schema', 'jax_traceback_filtering', 'jax_traceback_in_locations_limit',
    'jax_tracer_error_num_traceback_frames', 'jax_use_emit_pipeline_primitive', 'jax_use_magma', 'jax_xla_backend',
    'jax_xla_profile_version', 'jax2tf_associative_scan_reductions', 'jax2tf_default_native_serialization',
    'mock_num_gpu_processes'}
FREE_OF_FLAX = {  # Names of frames, and Linen, which is not used here.
    'flax_filter_frames', 'flax_fix_rng_separator', 'flax_max_repr_depth', 'flax_preserve_adopted_names', 'flax_profile',
    'flax_return_frozendict', 'flax_use_orbax_checkpointing'}
OTHERS = {  # Another value of each pinned flag that is no bool.
    'jax_default_prng_impl': 'rbg', 'jax_random_seed_offset': 7, 'jax_legacy_prng_key': 'error',
    'jax_numpy_dtype_promotion': 'strict', 'jax_numpy_rank_promotion': 'raise', 'jax_default_matmul_precision': 'bfloat16',
    'jax_use_hlo_logistic_lowering': True, 'jax_explicit_x64_dtypes': 'error', 'jax_embedded_constants_max_bytes': 0,
    'jax_optimization_level': 'O0', 'jax_exec_time_optimization_effort': -1.0, 'jax_memory_fitting_effort': -1.0,
    'jax_memory_fitting_level': 'O0', 'jax_error_checking_behavior_divide': 'raise', 'jax_error_checking_behavior_nan': 'raise',
    'jax_error_checking_behavior_oob': 'raise', 'jax_array_garbage_collection_guard': 'log', 'jax_transfer_guard': 'disallow',
    'jax_transfer_guard_device_to_device': 'disallow', 'jax_transfer_guard_device_to_host': 'disallow',
    'jax_transfer_guard_host_to_device': 'disallow'}
PINNED = [name for name in environment.JAX if name in jax.config.values]
HOSTILE = {
    'JAX_ENABLE_X64': '1', 'JAX_NUMPY_DTYPE_PROMOTION': 'strict', 'JAX_NUMPY_RANK_PROMOTION': 'raise',
    'JAX_TRANSFER_GUARD': 'disallow', 'JAX_DEFAULT_PRNG_IMPL': 'rbg', 'JAX_THREEFRY_PARTITIONABLE': '0',
    'JAX_RANDOM_SEED_OFFSET': '7', 'JAX_DEBUG_NANS': '1', 'JAX_DISABLE_JIT': '1', 'JAX_DEFAULT_MATMUL_PRECISION': 'bfloat16',
    'JAX_OPTIMIZATION_LEVEL': 'O0', 'NNX_GRAPH_MODE': '1'}
TINY = {'strategy': 'random', 'budget.evaluations': 2, 'random.batch': 1, 'epochs.final': 1}


@contextlib.contextmanager
def flag(name, value, config=jax.config):
  """Within, the process has another value of a flag."""
  values = config.values if config is jax.config else config._values
  before = values[name]
  config.update(name, value)
  try:
    yield
  finally:
    config.update(name, before)


def test_every_flag_is_pinned_or_the_user_s():
  """A flag of a later version is in neither: decide which it is."""
  assert not environment.JAX.keys() & FREE and not environment.FLAX.keys() & FREE_OF_FLAX
  assert not jax.config.values.keys() - environment.JAX.keys() - FREE
  assert not flax.config._values.keys() - environment.FLAX.keys() - FREE_OF_FLAX


def test_results_are_made_with_the_defaults():
  environment.check()
  assert environment.pin() == []
  assert set(OTHERS) == {name for name, value in environment.JAX.items() if not isinstance(value, bool)}


@pytest.mark.parametrize('name', PINNED)
def test_a_command_sets_a_flag_back_and_python_refuses_it(name, monkeypatch, user_error):
  other, default = OTHERS.get(name, environment.JAX[name] is False), jax.config.values[name]
  monkeypatch.setenv(name.upper(), str(other))
  with flag(name, other):
    with user_error(f'{name} is {other!r} in this process, which could change a result; start Python without {name.upper()}',
                    f'call jax.config.update({name!r}, {environment.JAX[name]!r}) before'):
      environment.check()
    assert jax.config.values[name] != default
    notes = environment.pin()
    assert f'{name.upper()}={other} is of no effect: results follow from the settings alone' in notes
    assert jax.config.values[name] == default and name.upper() not in os.environ  # Nor in processes that this one starts.


@pytest.mark.parametrize('name', [name for name in environment.FLAX if name in flax.config._values])
def test_a_flag_of_flax_is_refused(name, monkeypatch, user_error):
  """It was used when Flax was imported, so that nothing can be set back."""
  monkeypatch.setenv(name.upper(), 'x')
  with flag(name, not environment.FLAX[name], flax.config):
    for entry in (environment.check, environment.pin):
      with user_error(f'{name} is {not environment.FLAX[name]} in this process', f'without {name.upper()}'):
        entry()
  environment.pin()
  assert name.upper() not in os.environ


def test_a_context_of_python_is_seen(user_error):
  for context, name in ((jax.enable_x64(True), 'jax_enable_x64'), (jax.debug_nans(True), 'jax_debug_nans'),
                        (jax.default_matmul_precision('float32'), 'jax_default_matmul_precision')):
    with context, user_error(name):
      environment.check()


@pytest.mark.parametrize('entry', [
    lambda: enas_jax.run(data='no such', progress=False), Execution.default,
    lambda: predictors.make('mlp', []).fit([], [], seed=0)], ids=['run', 'Execution.default', 'predictors'])
def test_entries_from_python(entry, user_error):
  """They are refused before anything else is looked at, and change nothing of the process."""
  with flag('jax_enable_x64', True):
    with user_error("jax_enable_x64 is True in this process"):
      entry()
    assert jax.config.jax_enable_x64


@pytest.fixture(scope='module')
def seen(runner, tmp_path_factory):
  """The workdir of a search of two candidates in a process of its own."""
  workdir = tmp_path_factory.mktemp('seen') / 'w'
  runner.process('search', workdir, **TINY)
  return workdir


@pytest.mark.once
@pytest.mark.slow
def test_a_hostile_environment_changes_no_bit(runner, seen, tmp_path, monkeypatch):
  for name, value in HOSTILE.items():
    monkeypatch.setenv(name, value)
  process = runner.start('search', tmp_path / 'w', **TINY)
  _, err = process.communicate(timeout=300)
  assert process.returncode == 0
  assert sorted(err.splitlines()) == sorted(
      f'{name}={value} is of no effect: results follow from the settings alone'
      for name, value in HOSTILE.items() if name != 'NNX_GRAPH_MODE')  # That is its default.
  for name in HOSTILE:
    monkeypatch.delenv(name)
  same_run(tmp_path / 'w', seen)
  assert json.loads((tmp_path / 'w' / 'config.json').read_text())['hardware'] == json.loads(
      (seen / 'config.json').read_text())['hardware']


@pytest.mark.once
@pytest.mark.slow
def test_a_network_predicts_the_same_in_any_process(seen):
  images = image_part(20, np.random.default_rng(1))[0]
  expected = enas_jax.load(seen).logits(images)
  with flag('jax_enable_x64', True), flag('jax_numpy_dtype_promotion', 'strict'), flag('jax_numpy_rank_promotion', 'raise'), \
       flag('jax_transfer_guard', 'disallow'), flag('jax_default_prng_impl', 'rbg'):
    model = enas_jax.load(seen)
    np.testing.assert_array_equal(model.logits(images), expected)
    assert jax.config.jax_enable_x64
  np.testing.assert_array_equal(model.logits(images), expected)


def test_what_compilers_read_by_themselves_is_recorded(monkeypatch, tmp_path):
  for name in environment.RECORDED:
    monkeypatch.delenv(name, raising=False)
  assert environment.recorded() == {}
  with Workdir.open(tmp_path, get_config(), data_checksum='d'):
    pass  # As a folder of an earlier version.
  monkeypatch.setenv('NVIDIA_TF32_OVERRIDE', '0')
  monkeypatch.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=4 --xla_dump_to=d --xla_cpu_enable_fast_math=true')
  assert environment.recorded() == {'NVIDIA_TF32_OVERRIDE': '0', 'XLA_FLAGS': '--xla_cpu_enable_fast_math=true'}
  assert machine.hardware().items() >= environment.recorded().items()
  with Workdir.open(tmp_path, get_config(), data_checksum='d') as workdir:
    assert workdir.notice == ('since the first run NVIDIA_TF32_OVERRIDE was absent, is "0", XLA_FLAGS was absent, is '
                              '"--xla_cpu_enable_fast_math=true": results can differ in the last digits')
  monkeypatch.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=4')
  monkeypatch.delenv('NVIDIA_TF32_OVERRIDE')
  assert environment.recorded() == {}


@pytest.mark.parametrize('error', [
    RuntimeError("Unable to initialize backend 'x':\nno"), AssertionError(), OSError('no driver')])
def test_a_device_that_is_not_there(error, monkeypatch, capsys, user_error):
  def devices():
    raise error

  monkeypatch.setattr(jax, 'devices', devices)
  for entry in (machine.devices, machine.hardware, lambda: enas_jax.run(progress=False)):
    with pytest.raises(UserError, match='JAX finds no such device'):
      entry()
  with pytest.raises(SystemExit) as ended:
    cli.run(lambda values: pytest.fail('it was started'), argv=['enas', '--workdir=w'])
  assert ended.value.code == 2
  err = capsys.readouterr().err
  assert err.startswith('error: ') and err.endswith('; set JAX_PLATFORMS to one that is there, as cpu is\n')


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize(('command', 'platforms'), [('search', 'nonsense'), ('compare', 'cuda')])
def test_platforms_that_are_not_there(command, platforms, tmp_path):
  if platforms == 'cuda' and jax.default_backend() == 'gpu':
    pytest.skip('this machine has one')
  done = subprocess.run(
      [sys.executable, '-m', f'enas_jax.{command}', f'--workdir={tmp_path}/w'], capture_output=True, text=True,
      env={**os.environ, 'JAX_PLATFORMS': platforms}, timeout=100)
  assert done.returncode == 2 and not done.stdout and not (tmp_path / 'w').exists()
  assert done.stderr.startswith(f'error: JAX_PLATFORMS={platforms}: JAX finds no such device (')
  assert done.stderr.count('\n') == 1


@pytest.mark.parametrize(('name', 'value', 'told'), [
    ('JAX_ENABLE_X64', 'maybe', True), ('JAX_DEFAULT_MATMUL_PRECISION', 'bogus', True), ('FLAX_ARRAY_REF', 'maybe', True),
    ('JAX_ENABLE_X64', 'no', False)])
def test_a_value_that_jax_or_flax_cannot_read(tmp_path, name, value, told):
  """They raise when they are imported; commands go on without it."""
  done = subprocess.run(
      [sys.executable, '-m', 'enas_jax.compare', f'--workdir={tmp_path}/w', '--strategies=random', '--trials=1', '--queries=3'],
      env={**os.environ, name: value}, capture_output=True, text=True, timeout=100)
  note = f'{name}={value} is of no effect: results follow from the settings alone\n'
  assert (done.returncode, done.stderr) == (0, note if told else '')


@pytest.mark.parametrize(('name', 'value'), [
    ('JAX_EXPORT_CALLING_CONVENTION_VERSION', 'one'), ('JAX_LOGGING_LEVEL', 'loud'), ('FLAX_PROFILE', 'maybe')])
def test_a_value_of_the_user_s_that_cannot_be_read(tmp_path, name, value):
  done = subprocess.run(
      [sys.executable, '-m', 'enas_jax.predict', f'--workdir={tmp_path}', 'x.png'], env={**os.environ, name: value},
      capture_output=True, text=True, timeout=100)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith('error: ') and value in done.stderr and name in done.stderr and done.stderr.count('\n') == 1


def test_what_jax_has_read_is_left_to_pin(monkeypatch):
  monkeypatch.setenv('JAX_ENABLE_X64', 'maybe')
  environment.forget()
  assert os.environ['JAX_ENABLE_X64'] == 'maybe' and environment.pin() == []
