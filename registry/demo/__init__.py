"""The demonstration: real chess games, played over connections that keep breaking.

`server` and `room` are what a user of the library would write; `client` and `player` are the
other end and know only what came over their connections; `wire` is between them. `faults` and
`intruders` make trouble. `tournament` plays, verifies and clears up; `games`, `tally`, `view`
and `cli` serve it.
"""
