"""`pylon simulate`: the shipped deciders among modelled providers, relays and customers, on a simulated clock.

    report = simulate(Plan(providers=10_000, jobs=100_000))

The decisions are the program's own: `swarm.providers.directory`, `swarm.dispatch`, `swarm.flights`,
`swarm.spending.relation`, `provider.admission`, `provider.customers`, `provider.queue`, `money.accounts.account` and
`money.accounts.mirror` run unchanged. Everything around them is a model: how long a job takes, when a relay delivers,
who cheats. Nothing sleeps, and no socket is opened.
"""
