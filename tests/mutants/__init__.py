"""The tests, tested: faults put into the core by mutmut, one at a time, and which of them no test notices."""
