"""Alias table: operators and hooks that reach outside, and what provider packages share."""

NAMES = """
"""
