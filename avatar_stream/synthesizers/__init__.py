"""What makes the avatar's images: a plug-in room.

A file is a type of its own name: it has a class derived from `stages.py`'s `Synthesizer` and ends with `STAGE = TheClass`.
A name with `_` in front is a helper's.
"""
