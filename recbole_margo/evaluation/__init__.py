"""Evaluation beyond one mean: values per user, slices, intervals and paired tests."""
