"""The job language of NIP-90 and its schema `pylon/1`: pure values, written to events and read from them."""
