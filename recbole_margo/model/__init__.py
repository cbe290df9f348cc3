"""The models: one file a model, found by the registry."""
