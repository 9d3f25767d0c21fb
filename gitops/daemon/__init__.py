"""The composition root: builds everything from the settings, owns signals, locks and the order of shutdown.

`main` is the daemon itself; `background` starts, stops and looks at one from outside. Both import heavy modules only
where they need them.
"""
