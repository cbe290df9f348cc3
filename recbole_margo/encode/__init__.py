"""Raw texts, images and sounds of items to feature matrices."""
