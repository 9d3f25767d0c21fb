"""Placement, slots, restarts and rollouts as pure functions over objects: no store, clock, socket or randomness.

The managers' loops drive them, and so does whoever wants to know beforehand what the loops would do.

    constraints   the grammar of placement constraints, and whether a node meets them
    nodes         what each node holds: resources, counts, ports, failures
    filters       why a node can't take a task, in a fixed order, each with words for people
    placement     which node takes which task
    modes         what a service's mode asks for, and of which nodes
    slots         which slots are filled, free or dead; whom a scale-down takes
    jobs          which slots of a job get a task
    dirtiness     whether a task still is what its service says
    restart       whether and when a slot gets a new task
    rollout       what an update does next

Passes carry these decisions out on a board (`board`) that is handed in: a transaction of the managers' store, or the
model of a forecast.

    services      one pass over a service: restarts, filling and scaling by its mode, updates
    replicated    which slots of a replicated service count
    bynode        global services and jobs: a task on each node that fits
    restarts      the restart supervisor
    updates       the update supervisor
    tasks         making tasks, moving their desired state, and what several passes ask about them

A forecast runs the passes without a manager.

    model         a swarm in memory: board, clock, and nodes that do as they are told
    forecast      what will happen to services that are created, changed or removed
    refusals      why nodes can't take a task, in detail
"""
