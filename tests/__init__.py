"""The whole test suite; each folder needs a little more of a machine than the one before."""
