"""What MARGO learned about the reliability of the modalities."""
