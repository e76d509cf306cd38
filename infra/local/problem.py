"""What a service said when it refused, as one sentence for a person."""

import json

FIELDS_MAX = 5
TEXT_MAX = 200


def told(body: str) -> str:
    """The detail of a problem+json body, with the first wrong fields; else the first line of whatever it was."""
    try:
        problem = json.loads(body)
        fields = [f"{field['pointer']}: {field['detail']}" for field in problem.get("errors", [])[:FIELDS_MAX]]
        return "; ".join([problem["detail"], *fields])
    except (ValueError, KeyError, TypeError, AttributeError):
        return body.strip().partition("\n")[0][:TEXT_MAX]
