"""Training-free scores: numbers that rank networks at initialisation, over any space's module.

    values = scores.score(network, ['synflow', 'naswot'], images, labels, seed=[0])

A score of your own is a class under `register`; see `Score`, and any file here for an example.
"""
from __future__ import annotations

from enas_jax.scores import az_nas, fisher, grad_norm, grasp, jacob_cov, meco, naswot, ntk, snip, synflow, zen, zico
from enas_jax.scores.base import Batch, Plain, Score, loss, loss_gradient
from enas_jax.scores.equations import Kind
from enas_jax.scores.measuring import Scorer, find, score
from enas_jax.scores.module_network import ModuleNetwork
from enas_jax.scores.network import Network, Seen, Sites
from enas_jax.scores.registration import SCORES, register

__all__ = [
    'SCORES', 'Batch', 'Kind', 'ModuleNetwork', 'Network', 'Plain', 'Score', 'Scorer', 'Seen', 'Sites', 'find', 'loss',
    'loss_gradient', 'register', 'score']

del az_nas, fisher, grad_norm, grasp, jacob_cov, meco, naswot, ntk, snip, synflow, zen, zico  # Imported to be registered.
