"""The stock Elasticsearch backends of pySigma and ours, on one real node, one index and one truth.

``python -m benchmarks.fidelity RULES EVENTS`` converts every rule with each of them, runs the queries over the events
and compares with what the rules say (:mod:`keytrail.reference`). docs/fidelity.md has the figures and what they mean.
"""
