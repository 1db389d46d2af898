"""Who gets which job: the decider that `pylon simulate` runs too, and its parts."""
