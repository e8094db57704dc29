"""What finds the signer's landmarks: a plug-in room.

A file is a type of its own name: it has a class derived from `stages.py`'s `Tracker` and ends with `STAGE = TheClass`.
A name with `_` in front is a helper's.
"""
