"""How much to leave with a provider at a time: little at first, more with work that was verified.

At most three jobs' worth before anything is known. Later as many jobs' worth as twelve times what this provider
has already done well: whoever runs away keeps a bounded multiple of honest work, and never more than the spend
limit for one provider. Twelve, because with eight jobs in flight a hundred jobs then take three payments; with two
times they take six, with four times five.
"""

from pylon.money.msat import MSAT_PER_SAT, Msat
from pylon.records import record

FIRST_JOBS = 3
GROWTH = 12


@record
class DepositPolicy:
    """`first_jobs` for a provider without history, then `growth` jobs for each verified one."""

    first_jobs: int = FIRST_JOBS
    growth: int = GROWTH


def wish(quote: Msat, *, verified_jobs: int, jobs_left: int, most: Msat, policy: DepositPolicy | None = None) -> Msat:
    """The deposit to offer (`topup`), in whole sats, never above `most`.

    `quote` is the usual job's; `jobs_left` is what the run may still send to this provider: no more is left
    there than it can work off.
    """
    policy = policy or DepositPolicy()
    jobs = min(max(policy.first_jobs, policy.growth * verified_jobs), max(1, jobs_left))
    # As plain numbers: it is asked at each job, and only what comes out has to be an amount.
    wished, most_sats = -(-int(quote) * jobs // MSAT_PER_SAT), int(most) // MSAT_PER_SAT
    return Msat(min(wished, most_sats) * MSAT_PER_SAT)
