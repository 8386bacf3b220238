"""Compliance evidence: from the catalog's records to a report that a machine or an auditor reads.

``build`` turns records into one typed model (``model``), ``render`` turns the model into JSON and HTML, ``plots``
draws. Nothing here does I/O or asks for the time.
"""
