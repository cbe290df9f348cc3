"""Models compared on one split with several seeds; ablations."""
