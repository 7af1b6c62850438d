"""The pipeline for CloudTrail records as they are, in an index that makes its own fields."""

from sigma.processing.pipeline import ProcessingPipeline

from keytrail.backend import pipeline
from keytrail.schemas import get_schema


def keytrail_raw() -> ProcessingPipeline:
    """Check a rule's fields for an index that names them as CloudTrail does, by dynamic mapping."""
    return pipeline(get_schema("raw"))


__all__ = ["keytrail_raw"]
