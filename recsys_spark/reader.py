"""Public interface for services: a published bundle without Spark, torch or a JVM; its place does not change.

from recsys_spark.reader import open_current

bundle = open_current("warehouse")
for candidate in bundle.candidates("u17").items:
    ...
"""

from recsys_spark.errors import BundleExpired
from recsys_spark.serving.answers import Candidate, Candidates, Related, Scored, Source, merge
from recsys_spark.serving.bundle import Bundle, changed_users, open_current, open_index
from recsys_spark.serving.cold_start import Ladder

__all__ = ["Bundle", "BundleExpired", "Candidate", "Candidates", "Ladder", "Related", "Scored", "Source"]
__all__ += ["changed_users", "merge", "open_current", "open_index"]
