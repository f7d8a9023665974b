"""Databases: one hook class per kind, and operators and sensors that work with any of them."""
