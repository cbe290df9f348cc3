"""The search for hyper-parameters on validation."""
