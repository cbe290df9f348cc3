"""Speed, memory and scale against a naive reference: `python -m benchmarks --help`."""
