"""A provider whose receipts are missing for long: it is left alone, and then asked again."""

from dataclasses import replace

from pylon.money.accounts.gaps import SUSPENSION_S
from pylon.money.accounts.mirror import PATIENCE_S
from pylon.swarm.rows import written
from pylon.swarm.spending.account_purse import SEEK_S
from tests.swarm.test_account_purse import BID, BOUNDS, PRICED, THEM, bill, next_process, pays, receipt, result
from tests.swarm.test_account_purse import lightning as lightning
from tests.swarm.test_account_purse import purse as purse
from tests.swarm.test_account_purse import quick as quick
from tests.waiting import until

JOBS = ["1" * 64, "2" * 64, "3" * 64]


async def with_a_gap(purse, lightning) -> None:
    """Of three jobs the second was answered, and charged for, by a result that nobody saw."""
    await purse.start()
    await pays(purse, lightning)
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    await written([purse.ordered(job, 5940, offer) for job in JOBS])
    for seq in (1, 3):
        came = receipt(seq, 1_000, seq * 1_000, 3_000)
        await purse.accept(bill(purse, JOBS[seq - 1]), offer, result(came))
    lightning.clock.advance(PATIENCE_S)
    await until(lambda: purse._relations[THEM].suspended)


async def test_a_provider_whose_receipts_stay_missing_is_left_alone_and_then_asked_again(purse, lightning, quick):
    told = []
    purse.changed = told.append
    await with_a_gap(purse, lightning)
    assert told[-1] == THEM
    assert (purse.width(PRICED), purse.funded(PRICED)) == (0, False)
    why = purse.barred(PRICED)
    assert "receipt_gap_unexplained" in why
    assert "10 minutes" in why
    assert "1 play sat of our money" in why
    lightning.clock.advance(SUSPENSION_S)
    await until(lambda: purse.width(PRICED))
    assert purse.barred(PRICED) == ""
    assert purse._relations[THEM].balance == 0, "what was charged is paid for, seen or not"
    assert purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100).seen.seq == 3


async def test_it_is_left_alone_after_a_restart_too(purse, lightning, quick):
    await with_a_gap(purse, lightning)
    again = next_process(purse)
    await again.start()
    assert again.width(PRICED) == 0
    await again.close()


async def test_what_turns_up_meanwhile_ends_that_and_is_asked_for_seldom(purse, lightning, quick):
    await with_a_gap(purse, lightning)
    assert [owed.request for owed in await purse.unanswered(at_start=False)] == [JOBS[1]]
    assert await purse.unanswered(at_start=False) == []
    lightning.clock.advance(SEEK_S)
    [owed] = await purse.unanswered(at_start=False)
    offer = replace(owed.offer, listing=PRICED)
    assert await purse.accept(bill(purse, JOBS[1]), offer, result(receipt(2, 1_000, 2_000, 3_000))) == 1_000
    assert purse.width(PRICED)
    assert purse.barred(PRICED) == ""
