"""What README.md promises in figures, measured on this machine: `python -m bench.scaler`, `bench.flood`."""
