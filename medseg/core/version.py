"""The one place that says which medseg this is."""

VERSION = "0.1.0"
