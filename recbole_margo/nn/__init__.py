"""Small, pure building blocks: tensors in, tensors out."""
