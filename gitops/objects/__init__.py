"""The Engine API's objects, typed: one vocabulary for wire, store and code. No I/O, no clock, no randomness.

All are frozen `msgspec` structs in the API's own shape (version 1.47) with the API's own JSON names; change one with
`msgspec.structs.replace`. Fields at their default are left out of JSON unless the API always sends them. Times are
RFC 3339 strings with nanoseconds, durations nanoseconds, sizes bytes, CPUs billionths.
"""
