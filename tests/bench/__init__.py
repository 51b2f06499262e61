"""How fast the product is, each figure beside what this machine could do at best, measured in the same run.

    python -m tests.bench [--json] [--soak-s S]

A benchmark, not a test: a figure that misses its aim is shown as one that does.
"""
