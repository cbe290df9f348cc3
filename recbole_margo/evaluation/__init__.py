"""What an evaluation says beyond one mean: values per user, slices, and paired tests."""
