"""The scaler: decisions as tables and sequences, adapters against real servers."""
