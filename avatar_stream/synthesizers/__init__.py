"""What makes the avatar's images: a plug-in room.

A file is a type of its own name. It has a class derived from `stages.Synthesizer`, and ends with
`STAGE = TheClass`.
A name with `_` in front is a helper's.
"""
