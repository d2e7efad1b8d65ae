"""Segmenting whole folders: discovery, one isolated scan after the other, outputs, one row each."""
