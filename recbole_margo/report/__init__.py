"""How results are shown; knows no model."""
