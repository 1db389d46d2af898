"""What ends a cell from inside."""


class CellTime(BaseException):
    """The cell's time is over. Not an Exception, so that `except Exception` in the code lets it through."""


class CellDone(BaseException):
    """SUBMIT, FINAL or FINAL_VAR: the code has its answer and the rest of the cell does not run."""
