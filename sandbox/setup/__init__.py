"""`make setup`: installs what the demonstration and the tests need. Standard library only: it makes the venv."""
