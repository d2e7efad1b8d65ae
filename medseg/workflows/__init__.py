"""The Python API: one module and one function per thing a user does."""
