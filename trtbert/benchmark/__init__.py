"""Packages -> what they take on this machine beside other ways to run their source models: `run.benchmark`."""
