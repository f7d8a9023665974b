"""Tests: unit (plain values), contracts, integration (real servers), e2e (the `opskit` command as a process)."""
