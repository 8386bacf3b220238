"""The Lambda functions. Each parses its event, calls one use case, and answers with the record that was filed.

Nothing is read from the environment and no client is built when a module is imported. Invocations are made safe to
repeat by the ids of the records, not by a table of their own. A handler raises after the failed record is filed, so
that Lambda counts the invocation as an error and the alarm goes off.
"""
