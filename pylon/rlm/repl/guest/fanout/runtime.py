"""What rewritten code calls."""


class Fan:
    NAME = "__pylon__"
