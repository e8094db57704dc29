"""Outputs: where finished frames go: a plug-in room.

A file is a type of its own name. It has a class derived from `stages.Sink`, and ends with
`STAGE = TheClass`.
A name with `_` in front is a helper's.
"""
