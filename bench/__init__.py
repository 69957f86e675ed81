"""Figures of Sampan beside floors and peers, measured in the same run: `uv run just bench [name…] [--quick]`.

Each row is a module's function here; `peers/` holds the same small flows written for each engine. Peers live in
environments of their own under BENCH_ROOT (default: a folder in the user's cache). See bench/README.md.
"""
