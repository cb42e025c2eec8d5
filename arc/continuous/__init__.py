"""Continuous queries: what a query says about each window of time is written once, whoever carries it out."""
