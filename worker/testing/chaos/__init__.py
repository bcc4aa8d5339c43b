"""Proof that no image is lost: a steady load, faults under it, and an account by id afterwards."""
