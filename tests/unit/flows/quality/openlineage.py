"""The shape of OpenLineage's events, as far as we write them, in a JSON Schema of our own."""

from __future__ import annotations

from typing import Any, Final

_TEXT: Final = {"type": "string", "minLength": 1}
_URI: Final = {"type": "string", "pattern": "^https://[^ ]+$"}
_FACET: Final = {
    "type": "object",
    "required": ["_producer", "_schemaURL"],
    "properties": {"_producer": _URI, "_schemaURL": _URI},
}
_FACETS: Final = {"type": "object", "additionalProperties": _FACET}


def _facet(**more: Any) -> dict[str, Any]:
    return {"allOf": [_FACET, {"required": list(more), "properties": more}]}


_INPUT_FIELD: Final = {
    "type": "object",
    "required": ["namespace", "name", "field"],
    "properties": {
        "transformations": {
            "type": "array",
            "items": {
                "required": ["type"],
                "properties": {
                    "type": {"enum": ["DIRECT", "INDIRECT"]},
                    "masking": {"type": "boolean"},
                },
            },
        }
    },
}
_DATASET: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {
        "namespace": _TEXT,
        "name": _TEXT,
        "facets": {
            **_FACETS,
            "properties": {
                "documentation": _facet(description=_TEXT),
                "ownership": _facet(
                    owners={"type": "array", "items": {"type": "object", "required": ["name"]}}
                ),
                "tags": _facet(
                    tags={
                        "type": "array",
                        "items": {"type": "object", "required": ["key", "value"]},
                    }
                ),
                "columnLineage": _facet(
                    fields={
                        "type": "object",
                        "additionalProperties": {
                            "required": ["inputFields"],
                            "properties": {"inputFields": {"type": "array", "items": _INPUT_FIELD}},
                        },
                    }
                ),
            },
        },
    },
    "additionalProperties": False,
}
_CHECKED: Final = {
    **_DATASET,
    "properties": {
        **_DATASET["properties"],
        "inputFacets": {
            **_FACETS,
            "properties": {
                "dataQualityAssertions": _facet(
                    assertions={
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["assertion", "success"],
                            "properties": {"assertion": _TEXT, "success": {"type": "boolean"}},
                        },
                    }
                ),
            },
        },
    },
}
"""An input: the facet of assertions is one of datasets that were read, and of no others."""

_JOB: Final = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {"namespace": _TEXT, "name": _TEXT, "facets": _FACETS},
}
_BASE: Final = {
    "eventTime": {"type": "string", "pattern": "^[0-9-]{10}T[0-9:.]+Z$"},
    "producer": _URI,
    "schemaURL": _URI,
}
_SETS: Final = {"type": "array", "items": _DATASET}
_INPUTS: Final = {"type": "array", "items": _CHECKED}
_RUN: Final = {
    "type": "object",
    "required": ["runId"],
    "properties": {
        "runId": {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
    },
}
_KINDS: Final = ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]


def _event(required: list[str], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [*_BASE, *required],
        "properties": {**_BASE, **more},
        "additionalProperties": False,
    }


EVENT: Final = {
    "oneOf": [
        _event(
            ["run", "job"],
            eventType={"enum": _KINDS},
            run=_RUN,
            job=_JOB,
            inputs=_INPUTS,
            outputs=_SETS,
        ),
        _event(["job"], job=_JOB, inputs=_INPUTS, outputs=_SETS),
        _event(["dataset"], dataset=_DATASET),
    ]
}
