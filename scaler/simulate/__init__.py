"""A load replayed under one or several policies: `python -m scaler simulate`, never loaded by the scaler.

`load` makes a load and `recorded` takes one from a recording; `contender` reads what `--policy` asks for;
`site` is the model of queue, workers and pods, `fleet` our scaler over it and `hpa` the others; `race` lets
them run, `report` and `chart` show what came of it. What the model leaves out is in
docs/decisions/0016-one-decision-function-simulated.md.
"""
