"""What `python -m scaler` does besides scaling: one command a module, none of them loaded by the scaler."""
