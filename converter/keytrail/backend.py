"""The way from pySigma's parsed conditions to the resolved rule, and the base of Keytrail's targets for sigma-cli."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

from sigma.collection import SigmaCollection
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionItem,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
    SigmaCondition,
)
from sigma.conversion.base import Backend
from sigma.conversion.state import ConversionState
from sigma.correlations import SigmaCorrelationRule
from sigma.modifiers import SigmaBase64OffsetModifier
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations import FieldFunctionTransformation, SetStateTransformation
from sigma.rule import SigmaRule
from sigma.rule.detection import SigmaDetection, SigmaDetectionItem
from sigma.types import (
    SigmaBool,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaFieldReference,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SpecialChars,
)

from keytrail import correlation_plan
from keytrail.errors import KeytrailError, Refused, RuleError
from keytrail.lint import MOST_QUESTIONS, check_detections, named
from keytrail.pack import Rule, needs_profile, refusal
from keytrail.resolved import (
    Boolean,
    Cidr,
    Compare,
    Exists,
    FieldReference,
    Leaf,
    Node,
    Not,
    Number,
    Pattern,
    Regex,
    Test,
    Wild,
    conjunction,
    disjunction,
    negation,
)
from keytrail.schemas import Schema
from keytrail.typed import always
from keytrail.verdict import Query

STATE = "keytrail_schema"
Converter = TypeVar("Converter", bound=Callable[..., list[Any]])
_WILD = {SpecialChars.WILDCARD_MULTI: Wild.MANY, SpecialChars.WILDCARD_SINGLE: Wild.ONE}


def pipeline(schema: Schema) -> ProcessingPipeline:
    """Return the processing pipeline of a schema: the rule's field names become the index's.

    It serves the stock backends too, which know nothing of the fields' types; a field that the schema has no place
    for raises :class:`~keytrail.errors.UnmappedField`.
    """

    def rename(field: str | None) -> str:
        assert field is not None  # pySigma does not ask for keywords unless apply_keyword is set
        return schema.index_name(field)

    return ProcessingPipeline(
        name=f"Keytrail: {schema.title}",
        priority=20,
        items=[
            ProcessingItem(SetStateTransformation(STATE, schema), identifier=f"keytrail_{schema.name}_schema"),
            # Of this the stock backends make FROM in ES|QL, and the index of a rule.
            ProcessingItem(SetStateTransformation("index", schema.index), identifier=f"keytrail_{schema.name}_index"),
            ProcessingItem(FieldFunctionTransformation({}, rename), identifier=f"keytrail_{schema.name}_fields"),
        ],
    )


def pattern(value: SigmaString, cased: bool = False) -> Pattern:
    """Return a Sigma string as a pattern; a placeholder that nothing has replaced is refused."""
    parts: list[str | Wild] = []
    for part in value.s:
        if isinstance(part, str):
            if part:
                parts.append(part)
        elif isinstance(part, SpecialChars):
            if not (part is SpecialChars.WILDCARD_MULTI and parts and parts[-1] is Wild.MANY):
                parts.append(_WILD[part])
        else:
            raise Refused(
                f"the placeholder %{part.name}% has no value",
                hint="give it one in a processing pipeline, or write it out",
            )
    return Pattern(tuple(parts), cased)


def check_size(detections: Mapping[str, SigmaDetection], conditions: Iterable[str]) -> None:
    """Check how many values a rule's conditions ask for, before they are all written out.

    Raises :class:`Refused` for more than any target takes.
    """
    sizes = {name: _size(detection) for name, detection in detections.items()}
    total = 0
    for condition in conditions:
        for name in named(condition, list(detections)):
            total += sizes.get(name, 0)
            if total > MOST_QUESTIONS:
                raise Refused(f"the rule asks for more than {MOST_QUESTIONS:,} values, which no target takes")


def _size(part: SigmaDetection | SigmaDetectionItem) -> int:
    if isinstance(part, SigmaDetection):
        return sum(map(_size, part.detection_items))
    return max(1, len(part.value))


def check_values(detections: Iterable[SigmaDetection | SigmaDetectionItem]) -> None:
    """Check the values of a rule's detections.

    Raises :class:`RuleError` for ``base64offset`` of a value with non-ASCII characters, whose length pySigma counts in
    characters where base64 counts bytes: two of its three patterns are wrong then.
    """
    for part in detections:
        if isinstance(part, SigmaDetection):
            check_values(part.detection_items)
        elif SigmaBase64OffsetModifier in part.modifiers and not str(part.original_value).isascii():
            raise RuleError(
                f"pySigma encodes the non-ASCII value of {part.field}|base64offset wrongly",
                hint="write the three encoded forms out, with |contains",
            )


def read(rule: SigmaRule | SigmaCorrelationRule) -> Rule:
    """Return a rule of pySigma's as Keytrail reads it."""
    path = rule.source.path if rule.source is not None else f"{rule.title}.yml"
    return Rule(Path(path), rule.to_dict(), "")


def told(convert: Converter) -> Converter:
    """Make an error of ours one that sigma-cli can tell: with the rule's file, or collected where it asks for that.

    pySigma collects what is raised while it converts a rule, and not what is raised before or after.
    """

    @wraps(convert)
    def run(self: KeytrailBackend, rule: SigmaRule | SigmaCorrelationRule, *given: Any, **named: Any) -> list[Any]:
        try:
            return convert(self, rule, *given, **named)
        except KeytrailError as error:
            if self.collect_errors:
                self.errors.append((rule, error))  # type: ignore[arg-type]  # sigma-cli asks for its source alone
                return []
            if error.path is None and rule.source is not None:
                error.path = str(rule.source.path)
            raise

    return run  # type: ignore[return-value]


class KeytrailBackend(Backend):
    """Resolves a rule's conditions; a target says what to make of the result in :meth:`generate`."""

    requires_pipeline: ClassVar[bool] = True
    correlation_methods: ClassVar[dict[str, str] | None] = {"default": "the way that keeps the rule's meaning"}

    @abstractmethod
    def generate(self, node: Node, schema: Schema) -> Query:
        """Return the target's query for a resolved rule, or raise :class:`~keytrail.errors.Refused`."""

    def convert(self, rule_collection: SigmaCollection, *given: Any, **named: Any) -> Any:
        """Return what becomes of all rules.

        pySigma puts the very same selections of a filter into each rule that it narrows. A conversion changes names in
        place, so that they were index names already in the second of these rules.
        """
        rule_collection.resolve_rule_references()
        for rule in rule_collection.rules:
            if isinstance(rule, SigmaRule):
                detections = rule.detection.detections
                detections |= {name: deepcopy(detections[name]) for name in detections if name.startswith("_filt_")}
        return super().convert(rule_collection, *given, **named)

    @told
    def convert_rule(self, rule: SigmaRule, output_format: str | None = None, callback: Any = None) -> list[Any]:
        """Return the one query of ``rule``: Sigma's list of conditions is an alert for each, so any of them.

        Raises :class:`~keytrail.errors.NeedsProfile` for one read from a file that means nothing without a profile.
        """
        # Those that our own command has narrowed to a site come without a file.
        if rule.source is not None and needs_profile(read(rule)):
            error = refusal(read(rule))
            error.hint = "'keytrail convert --site FILE' narrows it to a site, which sigma-cli cannot"
            raise error
        detection = rule.detection
        check_detections(list(detection.detections), detection.condition)
        check_values(detection.detections.values())
        check_size(detection.detections, detection.condition)
        if len(detection.condition) > 1:
            detection.condition = [" or ".join(f"({condition})" for condition in detection.condition)]
            detection.parsed_condition = [SigmaCondition(detection.condition[0], detection, detection.source)]
        return super().convert_rule(rule, output_format, callback)

    @told
    def convert_correlation_rule(self, rule: SigmaCorrelationRule, *given: Any, **named: Any) -> list[Any]:
        """Return what a target makes of a correlation."""
        return super().convert_correlation_rule(rule, *given, **named)

    def convert_condition_or(self, cond: ConditionOR, state: ConversionState) -> Node:
        return disjunction(self._parts(cond, state))

    def convert_condition_and(self, cond: ConditionAND, state: ConversionState) -> Node:
        return conjunction(self._parts(cond, state))

    def convert_condition_not(self, cond: ConditionNOT, state: ConversionState) -> Node:
        return negation(self._parts(cond, state)[0])

    def _parts(self, cond: ConditionItem, state: ConversionState) -> list[Node]:
        return [self.convert_condition(part, state) for part in cond.args]

    def _leaf(self, cond: ConditionFieldEqualsValueExpression, test: Test) -> Leaf:
        """A leaf with the name that the rule gave the field before the pipeline changed it."""
        sources = self.last_processing_pipeline.field_mappings.target_fields.get(cond.field, set())
        named = sorted(source for source in sources if source)
        if len(named) > 1:
            both = " and ".join(named)
            raise Refused(f"{both} are both kept in {cond.field}, where they cannot be told apart", field=named[0])
        return Leaf(cond.field, test, named[0] if named else cond.field)

    def convert_condition_field_eq_val_str(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> Node:
        assert isinstance(cond.value, SigmaString)
        return self._leaf(cond, pattern(cond.value))

    def convert_condition_field_eq_val_str_case_sensitive(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> Node:
        assert isinstance(cond.value, SigmaString)
        return self._leaf(cond, pattern(cond.value, cased=True))

    def convert_condition_field_eq_val_num(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> Node:
        assert isinstance(cond.value, SigmaNumber)
        return self._leaf(cond, Number(cond.value.number))

    def convert_condition_field_eq_val_bool(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> Node:
        assert isinstance(cond.value, SigmaBool)
        return self._leaf(cond, Boolean(cond.value.boolean))

    def convert_condition_field_eq_val_null(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> Node:
        return Not(self._leaf(cond, Exists()))

    def convert_condition_field_exists(self, cond: ConditionFieldEqualsValueExpression, state: ConversionState) -> Node:
        return self._leaf(cond, Exists())

    convert_condition_field_not_exists = convert_condition_field_eq_val_null

    def convert_condition_field_eq_val_re(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> Node:
        value = cond.value
        assert isinstance(value, SigmaRegularExpression)
        if value.contains_placeholder():
            raise Refused(f"the regular expression on {cond.field} has a placeholder without a value", field=cond.field)
        flags = SigmaRegularExpressionFlag
        return self._leaf(
            cond,
            Regex(
                value.regexp.to_plain_regex(),
                ignore_case=flags.IGNORECASE in value.flags,
                multiline=flags.MULTILINE in value.flags,
                dotall=flags.DOTALL in value.flags,
            ),
        )

    def convert_condition_field_eq_val_cidr(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> Node:
        assert isinstance(cond.value, SigmaCIDRExpression)
        return self._leaf(cond, Cidr(cond.value.network))

    def convert_condition_field_compare_op_val(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> Node:
        assert isinstance(cond.value, SigmaCompareExpression)
        return self._leaf(cond, Compare(cond.value.op.name.lower(), cond.value.number.number))

    def convert_condition_field_eq_field(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> Node:
        value = cond.value
        assert isinstance(value, SigmaFieldReference)
        return self._leaf(cond, FieldReference(value.field, value.starts_with, value.ends_with))

    def convert_condition_field_eq_val_timestamp_part(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> NoReturn:
        raise Refused(f"a part of a time ({cond.field}) cannot be asked for without a script", field=cond.field)

    def convert_condition_field_eq_query_expr(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> NoReturn:
        raise Refused(f"a ready-made query expression on {cond.field} has no meaning that could be kept")

    def convert_condition_as_in_expression(self, cond: ConditionOR | ConditionAND, state: ConversionState) -> NoReturn:
        raise NotImplementedError("in-expressions are switched off")

    def _keyword(self, cond: ConditionValueExpression, state: ConversionState) -> NoReturn:
        raise Refused(
            f"the value {str(cond.value)!r} stands without a field: it would search everything",
            hint="name the field that holds it",
        )

    convert_condition_val_str = _keyword
    convert_condition_val_num = _keyword
    convert_condition_val_re = _keyword
    convert_condition_query_expr = _keyword

    def _correlation(self, rule: SigmaCorrelationRule, *_: Any, **__: Any) -> NoReturn:
        raise correlation_plan.not_a_query()

    convert_correlation_event_count_rule = _correlation
    convert_correlation_value_count_rule = _correlation
    convert_correlation_value_sum_rule = _correlation
    convert_correlation_value_avg_rule = _correlation
    convert_correlation_value_percentile_rule = _correlation
    convert_correlation_value_median_rule = _correlation
    convert_correlation_temporal_rule = _correlation
    convert_correlation_temporal_ordered_rule = _correlation
    convert_correlation_extended_temporal_rule = _correlation
    convert_correlation_extended_temporal_ordered_rule = _correlation

    def finish_query(self, rule: SigmaRule | SigmaCorrelationRule, query: Any, state: ConversionState) -> Query:
        """Generate the target's query; raises :class:`~keytrail.errors.Refused` where there is none."""
        schema: Schema = state.processing_state[STATE]
        made = self.generate(query, schema)
        return replace(made, conditions=(*made.conditions, *always(schema)))

    def finalize_query(self, rule: Any, query: Any, index: int, state: ConversionState, output_format: str) -> Any:
        return query

    def finalize(self, queries: list[Any], output_format: str) -> Any:
        return getattr(self, f"finalize_output_{output_format}")(queries)

    def finalize_output_default(self, queries: list[Query]) -> list[Any]:
        """Return what the target takes, one query a rule."""
        return [query.body for query in queries]

    def finalize_output_verdict(self, queries: list[Query]) -> list[dict[str, Any]]:
        """Return each query with its verdict."""
        return [
            {"verdict": query.verdict, "conditions": [part.as_dict() for part in query.conditions], "query": query.body}
            for query in queries
        ]
