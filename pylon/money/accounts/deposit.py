"""How much to deposit with a provider at a time: little at first, more as it does good work.

At most three jobs' worth before anything is known of a provider; later twelve times what the jobs that it has done
well could cost. That is counted in money and not in jobs, or a few cheap ones would buy a deposit for dear ones; and
what it has of ours is taken off, or it could ask for one deposit after the other. A provider that runs away so keeps
a bounded multiple of its honest work, and never more than the spend limit for one provider. With a factor of twelve a
hundred jobs take three payments; with two they take five, with four four.
"""

from pylon.money.msat import MSAT_PER_SAT, Msat

# How many jobs a provider without history gets money for at once, and how many times the worth of its good work.
FIRST_JOBS = 3
GROWTH = 12


def wish(quote: Msat, *, done: int, left: int, jobs_left: int, most: Msat) -> Msat:
    """The deposit to offer (`topup`), in whole sats, never above `most`.

    `quote` is that of a usual job. `done` is the sum of the quotes of the jobs that the provider has done well, and
    `left` what it has of ours, both in msat. `jobs_left` is how many jobs may still go to this provider: no more is
    deposited than it can work off.
    """
    # With plain numbers, since this runs for each job; only the result has to be an amount.
    room = max(FIRST_JOBS * int(quote), GROWTH * done) - left
    # Whoever has done nothing yet is given no more before it has worked off what it has.
    needed = int(quote) * max(1, jobs_left) - (0 if done else left)
    wished, most_sats = -(-max(0, min(room, needed)) // MSAT_PER_SAT), int(most) // MSAT_PER_SAT
    return Msat(min(wished, most_sats) * MSAT_PER_SAT)
