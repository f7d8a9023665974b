"""Kubernetes: pods as tasks, over the library kubernetes (`opskit[kubernetes]`)."""
