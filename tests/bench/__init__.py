"""The benchmarks, as far as it is pure what they make of a measurement."""
