"""`pylon simulate`: the shipped deciders among modelled machines, relays and people, on a simulated clock.

    report = simulate(Plan(providers=10_000, jobs=100_000))

What decides is the program itself: `swarm.directory`, `swarm.dispatch`, `swarm.flights`, `swarm.relation`,
`provider.admission`, `provider.queue`, `money.account`, `money.mirror`. What they decide about is a model: how long a
machine takes, when a relay delivers, who cheats. Nothing sleeps and no socket is opened.
"""
