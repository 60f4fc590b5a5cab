"""enas_jax: searches whole image networks in JAX and hands back a trained one.

    python -m enas_jax.search --workdir=DIR
    model = enas_jax.load('DIR'); model.predict(images)
"""
from enas_jax.config import get_config
from enas_jax.errors import UserError
from enas_jax.model import Model, load
from enas_jax.types import Evaluation, Request, Schedule, Task

__all__ = ['Evaluation', 'Model', 'Request', 'Schedule', 'Task', 'UserError', 'get_config', 'load']
