"""The node's money: its wallet, live money, and the calls about both."""
