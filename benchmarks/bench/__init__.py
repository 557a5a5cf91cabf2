"""`make bench`: how fast, row by row, each against what one would do without this package.

A row is a module `row_NN_name.py` with a `ROW` (row.py). Every repeat of every side runs in a process of its own
(side.py), the sides take turns (run.py), and each repeat is a line of `build/bench/NN_name.jsonl` (results.py). So what
was measured is not measured again, and the table of docs/performance.md is made from the files alone (table.py).
"""
