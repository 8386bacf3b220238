"""Security controls over a plan. Each answers its findings, one line per resource that breaks it.

The numbers are those of AWS's Foundational Security Best Practices (``S3.5``) and of checkov (``CKV_AWS_21``).
"""
