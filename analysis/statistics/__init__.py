"""Estimates with intervals, tests and corrections: all that the report prints comes from here.

Every estimate carries its number of rows and of clusters, its 95 % interval and the name of its method, and every test the name of
the test. Missing values are errors, never skipped.
"""
