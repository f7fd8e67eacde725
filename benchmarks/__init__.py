"""Measurements that the docs quote; ``python -m benchmarks`` lists them.

A benchmark is a folder here, and needs no other registration. Its ``__init__.py`` imports nothing
heavy, as it is imported for every command and in measured processes, and has

- a docstring, whose first line is the benchmark's line of help;
- ``TAKES``: how long on two cores, at the defaults and with ``--full``;
- ``FULL``: options and the values that ``--full`` gives them, those of the figures in the docs;
- ``options(parser)``: adds its options;
- ``measure(words, progress)``: prints its tables and returns its figures, by their keys.

What is measured lies beside it, what several share in `benchmarks.common`.
"""
