"""Strategies compared on benchmarks' tables: `python -m enas_jax.compare`."""
