"""Tests of the product; tests/README.md says how they are run and written."""

import os

# Two processes of tests have two cores: a second thread of a product or a search would wait for one that does not run.
# A file of index tests took 5 s of CPU so, and up to 23 s otherwise.  Here: it is read when they are loaded.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
