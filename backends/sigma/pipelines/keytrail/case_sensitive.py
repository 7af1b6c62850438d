"""The pipeline for stock backends that have no ``|cased``, and compare the case of every value."""

from sigma.processing.pipeline import ProcessingPipeline

from keytrail.stock import case_sensitive


def keytrail_case_sensitive() -> ProcessingPipeline:
    """Take ``|cased`` off the values of keywords."""
    return case_sensitive()


__all__ = ["keytrail_case_sensitive"]
