"""Whether the losses of MARGO's second stage pull its weights the same way."""
