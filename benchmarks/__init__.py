"""What is measured beyond `pylon bench`: run from a checkout, never installed."""
