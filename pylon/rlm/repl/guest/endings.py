"""The exceptions that end a cell."""


class CellTime(BaseException):
    """The cell's time is over. Not an Exception, so that `except Exception` in the code does not catch it."""


class CellDone(BaseException):
    """The code has given its answer by SUBMIT, FINAL or FINAL_VAR, and the rest of the cell is not run."""
