"""How much to deposit with a provider at a time: little at first, more as it does good work.

At most three jobs' worth before anything is known of a provider; later twelve jobs' worth for each job that it has
done well. A provider that runs away so keeps a bounded multiple of its honest work, and never more than the spend
limit for one provider. With a factor of twelve and eight jobs in flight a hundred jobs take three payments; with two
they take six, with four five.
"""

from pylon.money.msat import MSAT_PER_SAT, Msat

# How many jobs a provider without history gets money for at once, and how many for each job that it has done well.
FIRST_JOBS = 3
GROWTH = 12


def wish(quote: Msat, *, verified_jobs: int, jobs_left: int, most: Msat) -> Msat:
    """The deposit to offer (`topup`), in whole sats, never above `most`.

    `quote` is that of a usual job; `jobs_left` is how many jobs may still go to this provider: no more is deposited
    than it can work off.
    """
    jobs = min(max(FIRST_JOBS, GROWTH * verified_jobs), max(1, jobs_left))
    # With plain numbers, since this runs for each job; only the result has to be an amount.
    wished, most_sats = -(-int(quote) * jobs // MSAT_PER_SAT), int(most) // MSAT_PER_SAT
    return Msat(min(wished, most_sats) * MSAT_PER_SAT)
