"""A household: machines of one owner that serve each other for nothing, and nobody else. See docs/household.md."""
