"""The caps for live money that a person types, three numbers, and all limits that follow from them.

Pure functions: values in, values out. `node/wallet/live` keeps the three numbers beside the key.
"""

from dataclasses import asdict, dataclass

from pylon.errors import UsageError
from pylon.money.limits import Caps
from pylon.money.msat import Msat

# The largest fee of one payment: two sats, or a hundredth of the largest payment where that is more.
_LEAST_FEE, _FEE_SHARE = 2, 100
# How many of the largest payments one provider may hold.
_PROVIDER_PAYMENTS = 4
# Two fifths of the cap of a day may be spent within an hour.
_HOUR_PART, _HOUR_WHOLE = 2, 5


@dataclass(frozen=True, slots=True)
class Agreed:
    """The caps of one payment without its fee, of a day and of all time, in whole sats.

    Raises `UsageError` for a number beyond `MOST`, and where the cap of a day is below one payment with its fee, or
    the cap of all time below that of a day.
    """

    payment: int
    day: int
    all: int

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            sats = getattr(self, name)
            if type(sats) is not int or not 1 <= sats <= most:
                raise UsageError(
                    f"the cap `{name}` must be a whole number of sats from 1 to {most:,}",
                    hint="No setting or command can allow more.",
                )
        if not self.payment + self.fee <= self.day <= self.all:
            raise UsageError(
                f"caps of {self.payment:,} sat per payment, {self.day:,} per day and {self.all:,} "
                "in total do not fit together",
                hint=(
                    "The daily cap must cover at least one payment and its fee, here "
                    f"{self.payment + self.fee:,} sat; the total cap must be at least the daily one."
                ),
            )

    def exceeds(self, other: "Agreed") -> bool:
        """Whether any of the three is larger."""
        return self.payment > other.payment or self.day > other.day or self.all > other.all

    @property
    def fee(self) -> int:
        """The most that one payment may cost on the way, in whole sats: 2, or a hundredth of a large payment."""
        return max(_LEAST_FEE, -(-self.payment // _FEE_SHARE))

    @property
    def caps(self) -> Caps:
        """All limits. Each of them allows one payment of the largest size, with its fee."""
        one, sats = self.payment + self.fee, Msat.from_sats
        return Caps(
            payment=sats(self.payment),
            fee=sats(self.fee),
            job=sats(one),
            provider=sats(_PROVIDER_PAYMENTS * self.payment),
            hour=sats(max(one, self.day * _HOUR_PART // _HOUR_WHOLE)),
            day=sats(self.day),
            run=sats(self.day),
            all=sats(self.all),
        )

    @property
    def in_words(self) -> str:
        """The three caps, for the owner to read."""
        return f"at most {self.payment:,} sat per payment, {self.day:,} per day, {self.all:,} in total"

    def as_dict(self) -> dict[str, int]:
        """The three caps by name, in the order in which they are typed."""
        return asdict(self)


# The largest caps, whatever a person types; that of all time is a hundred times that of a day.
_MOST = {"payment": 10_000, "day": 100_000, "all": 10_000_000}
MOST = Agreed(**_MOST)
# The first caps: small enough that a mistake costs less than a coffee.
FIRST = Agreed(payment=50, day=500, all=5_000)
