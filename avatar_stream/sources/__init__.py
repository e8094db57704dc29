"""Where frames come from: a plug-in room.

A file is a type of its own name. It has a class derived from `stages.Source`, and ends with
`STAGE = TheClass`.
A name with `_` in front is a helper's.
"""
