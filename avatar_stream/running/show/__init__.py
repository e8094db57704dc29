"""A programme with the signer in vision: where it comes from, on which clock, and how both become one picture."""
