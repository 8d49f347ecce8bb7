"""The namespace as the API server has it, and every write to it. lightkube."""
